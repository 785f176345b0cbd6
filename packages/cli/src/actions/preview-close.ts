import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { parsePort } from "../values/numbers.ts";

/** `belljar preview close` */
export async function previewClose(context: Context, input: Input): Promise<void> {
  const port = parsePort(input.required("port"));
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  await sandbox.previews.remove(port, { signal: context.signal });
  if (context.output.json) context.output.data({ port, closed: true });
  else context.output.say(`port ${port} closed`);
}
