import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { parsePort } from "../values/numbers.ts";

/** `belljar preview links` */
export async function previewLinks(context: Context, input: Input): Promise<void> {
  const { output, signal } = context;
  const port = parsePort(input.required("port"));
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), signal);
  const items = await sandbox.previews.links(port, { signal });
  if (output.json) return output.data({ items });
  if (items.length === 0) return output.say("no links; make one with `belljar preview share`");
  output.table(
    [{ title: "ID" }, { title: "CREATED" }, { title: "EXPIRES" }],
    items.map((link) => [link.id, link.createdAt, link.expiresAt]),
  );
}

/** `belljar preview unshare` */
export async function previewUnshare(context: Context, input: Input): Promise<void> {
  const port = parsePort(input.required("port"));
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const id = input.required("link");
  await sandbox.previews.revokeLink(port, id, { signal: context.signal });
  if (context.output.json) context.output.data({ id, revoked: true });
  else context.output.say(`${id} revoked`);
}
