import type { PutPreviewRequest } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { parsePort } from "../values/numbers.ts";

/** `belljar preview open` */
export async function previewOpen(context: Context, input: Input): Promise<void> {
  const port = parsePort(input.required("port"));
  const client = await openClient(context);
  const { signal } = context;
  const sandbox = await client.sandbox(input.required("sandbox"), signal);
  const isOpen = sandbox.info.previews.some((preview) => preview.port === port);
  const wishes = wishesOf(input);
  if (!isOpen || Object.keys(wishes).length > 0)
    await sandbox.previews.put(port, wishes, { signal });
  const opened = await sandbox.previews.open(port, { signal });
  if (context.output.json) return context.output.data(opened);
  context.output.line(opened.url);
  context.output.say("works once, for 60 seconds; the browser that follows it stays signed in");
}

function wishesOf(input: Input): PutPreviewRequest {
  const visibility = input.text("visibility") as PutPreviewRequest["visibility"];
  return {
    ...(visibility === undefined ? {} : { visibility }),
    ...(input.flag("rewriteHost") ? { rewriteHost: true } : {}),
  };
}
