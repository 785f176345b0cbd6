import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";

/** `belljar preview ls` */
export async function previewList(context: Context, input: Input): Promise<void> {
  const { output } = context;
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const items = await sandbox.previews.list({ signal: context.signal });
  if (output.json) return output.data({ items });
  if (items.length === 0) return output.say("no previews; open one with `belljar preview open`");
  output.table(
    [{ title: "PORT", align: "right" }, { title: "VISIBILITY" }, { title: "URL", shrink: true }],
    items.map((preview) => [String(preview.port), preview.visibility, preview.url]),
  );
}
