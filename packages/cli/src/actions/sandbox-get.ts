import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { sandboxFacts } from "../sandbox-view.ts";

/** `belljar sandbox get` */
export async function sandboxGet(context: Context, input: Input): Promise<void> {
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  if (context.output.json) context.output.data(sandbox.info);
  else context.output.facts(sandboxFacts(sandbox.info));
}
