import type { Sandbox, SandboxState } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { describeAge } from "../sandbox-view.ts";

const PAGE_SIZE_MAX = 1000;

/** `belljar sandbox ls` */
export async function sandboxList(context: Context, input: Input): Promise<void> {
  const client = await openClient(context);
  const limit = input.number("limit") ?? Number.POSITIVE_INFINITY;
  const found: Sandbox[] = [];
  if (limit > 0) {
    const query = {
      state: input.text("state") as SandboxState | undefined,
      metadata: input.has("metadata") ? input.pairs("metadata") : undefined,
      pageSize: Math.min(limit, PAGE_SIZE_MAX),
      signal: context.signal,
    };
    for await (const sandbox of client.belljar.sandboxes.list(query)) {
      found.push(sandbox.info);
      if (found.length >= limit) break;
    }
  }
  print(context, found, input.flag("quiet"));
}

function print(context: Context, found: readonly Sandbox[], quiet: boolean): void {
  const { output } = context;
  if (output.json) return output.data({ items: found, nextCursor: null });
  if (quiet) return found.forEach((info) => output.line(info.id));
  if (found.length === 0) return output.say("no sandboxes; make one with `belljar sandbox create`");
  const columns = [
    { title: "ID" },
    { title: "NAME", shrink: true },
    { title: "STATE" },
    { title: "TEMPLATE", shrink: true },
    { title: "PORTS", shrink: true },
    { title: "ACTIVE" },
  ];
  output.table(
    columns,
    found.map((info) => [
      info.id,
      info.name ?? "-",
      info.state,
      info.template,
      info.previews.map((preview) => preview.port).join(",") || "-",
      describeAge(info.lastActiveAt),
    ]),
  );
}
