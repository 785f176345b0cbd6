import { type Client, openClient } from "../client.ts";
import type { Context } from "../command.ts";
import { download } from "../copy/download.ts";
import { CopyReport, type CopySummary } from "../copy/report.ts";
import { upload } from "../copy/upload.ts";
import { EXIT, UsageError } from "../failure.ts";
import type { Input } from "../input.ts";
import { formatBytes } from "../values/bytes.ts";
import { type CopySpec, parseCopySpec } from "../values/copy-spec.ts";

const BYTE_COUNT_MAX = 16 * 1024 ** 3;

/** `belljar sandbox cp` */
export async function sandboxCopy(context: Context, input: Input): Promise<number> {
  const source = parseCopySpec(input.required("source"));
  const target = parseCopySpec(input.required("target"));
  const inside = sandboxOf(source, target);
  const client = await openClient(context);
  const sandbox = await client.sandbox(inside, context.signal);
  const user =
    input.text("user") ?? (await defaultUserOf(client, sandbox.info.template, context.signal));
  const summary = await context.output.progress("copying", async (update) => {
    const report = new CopyReport(context.output, update);
    const common = {
      client,
      sandbox,
      source: source.path,
      target: target.path,
      user,
      report,
      signal: context.signal,
    };
    if (source.kind === "local") await upload(common);
    else await download({ ...common, byteCountMax: input.number("maxSize") ?? BYTE_COUNT_MAX });
    return report.summary;
  });
  if (context.output.json) context.output.data(summary);
  else context.output.say(describe(summary));
  return summary.refused.length === 0 ? EXIT.ok : EXIT.failed;
}

/** Files belong to whom commands run as, named outright so that tar and the files API act as the same one. */
async function defaultUserOf(
  client: Client,
  template: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  for await (const each of client.belljar.templates({ signal }))
    if (each.name === template) return each.defaultUser;
  return undefined;
}

function sandboxOf(source: CopySpec, target: CopySpec): string {
  if (source.kind === "sandbox" && target.kind === "sandbox") {
    throw new UsageError("one of the two must be on this machine", "Copy out first, then in.");
  }
  if (source.kind === "sandbox") return source.sandbox;
  if (target.kind === "sandbox") return target.sandbox;
  throw new UsageError("neither is in a sandbox", "Write a sandbox's path as NAME:/path.");
}

function describe(summary: CopySummary): string {
  const { fileCount, byteCount, refused } = summary;
  const left = refused.length === 0 ? "" : `, ${refused.length} not copied`;
  return `copied ${fileCount} ${fileCount === 1 ? "file" : "files"}, ${formatBytes(byteCount)}${left}`;
}
