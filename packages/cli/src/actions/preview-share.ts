import { BelljarError } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { parsePort } from "../values/numbers.ts";

/** `belljar preview share` */
export async function previewShare(context: Context, input: Input): Promise<void> {
  const { output, signal } = context;
  const port = parsePort(input.required("port"));
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), signal);
  const preview = sandbox.info.previews.find((each) => each.port === port);
  if (preview === undefined) {
    throw new BelljarError(
      "PREVIEW_NOT_FOUND",
      `port ${port} of ${sandbox.id} is not open as a preview`,
      { port },
    );
  }
  if (preview.visibility === "private") {
    await sandbox.previews.put(port, { visibility: "link" }, { signal });
    output.say(`port ${port} was private; whoever holds a link may see it now`);
  }
  if (preview.visibility === "public")
    output.say(`port ${port} is public: anyone may see it at ${preview.url}`);
  const link = await sandbox.previews.createLink(port, {
    expiresInMs: input.number("expires"),
    signal,
  });
  if (output.json) return output.data(link);
  output.line(link.url ?? "");
  output.say(
    `until ${link.expiresAt}; revoke with \`belljar preview unshare ${sandbox.info.name ?? sandbox.id} ${port} ${link.id}\``,
  );
}
