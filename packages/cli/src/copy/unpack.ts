import { Readable } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { extract, type Header } from "tar-stream";
import { safeParts, staysInside } from "./entry-name.ts";
import type { CopyReport } from "./report.ts";
import { TargetDirectory } from "./target-directory.ts";

const ENTRY_COUNT_MAX = 2_000_000;
const FILE_MODE = 0o644;

export interface UnpackOptions {
  readonly root: string;
  readonly byteCountMax: number;
  readonly report: CopyReport;
}

/** Unpacks a tar stream that a sandbox has made. Every name, link and size in it is doubted. */
export async function unpack(
  archive: AsyncIterable<Uint8Array>,
  options: UnpackOptions,
): Promise<void> {
  const target = new TargetDirectory(options.root);
  const parser = extract();
  const source = Readable.from(archive);
  source.on("error", (error) => parser.destroy(error));
  source.pipe(parser);
  let count = 0;
  for await (const entry of parser) {
    count += 1;
    if (count > ENTRY_COUNT_MAX) throw tooMuch(`more than ${ENTRY_COUNT_MAX} entries`);
    // The entry is a stream of bytes; its types leave open of what.
    await unpackEntry(target, entry as ArchiveEntry, options);
    entry.resume();
  }
  await target.finish();
}

type ArchiveEntry = AsyncIterable<Uint8Array> & { header: Header };

async function unpackEntry(
  target: TargetDirectory,
  entry: ArchiveEntry,
  options: UnpackOptions,
): Promise<void> {
  const { header } = entry;
  const { report } = options;
  const parts = safeParts(header.name);
  if (header.type === "directory") {
    await target.directory(parts, header.mode);
    report.summary.directoryCount += 1;
  } else if (parts.length === 0) {
    report.refuse(header.name, "it has no name");
  } else if (header.type === "file" || header.type === "contiguous-file") {
    await target.file(parts, header.mode ?? FILE_MODE, counted(entry, options));
    report.file();
  } else if (header.type === "link") {
    if (await target.hardLink(parts, safeParts(header.linkname ?? ""))) report.file();
    else report.refuse(header.name, "it is a second name of a link");
  } else if (header.type === "symlink") {
    await unpackSymlink(target, parts, header.linkname ?? "", report);
  } else {
    report.refuse(header.name, `it is a ${header.type ?? "thing of no known type"}`);
  }
}

async function unpackSymlink(
  target: TargetDirectory,
  parts: readonly string[],
  linkTarget: string,
  report: CopyReport,
): Promise<void> {
  if (!staysInside(linkTarget, parts.length - 1)) {
    report.refuse(parts.join("/"), `it is a link that leads out of the target, to ${linkTarget}`);
    return;
  }
  await target.symlink(parts, linkTarget);
  report.summary.symlinkCount += 1;
}

async function* counted(
  content: AsyncIterable<Uint8Array>,
  options: UnpackOptions,
): AsyncGenerator<Uint8Array> {
  for await (const data of content) {
    options.report.bytes(data.byteLength);
    if (options.report.summary.byteCount > options.byteCountMax)
      throw tooMuch(`more than ${options.byteCountMax} bytes`);
    yield data;
  }
}

function tooMuch(what: string): BelljarError {
  return new BelljarError(
    "BODY_TOO_LARGE",
    `the sandbox sends ${what}; raise --max-size if that is what you want`,
  );
}
