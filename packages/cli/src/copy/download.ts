import { randomBytes } from "node:crypto";
import { lstat, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, posix } from "node:path";
import { BelljarError, type FileStat } from "@belljar/protocol";
import type { Sandbox } from "@belljar/sdk";
import type { Client } from "../client.ts";
import { safeParts, staysInside } from "./entry-name.ts";
import { runTar } from "./remote-tar.ts";
import type { CopyReport } from "./report.ts";
import { TargetDirectory } from "./target-directory.ts";
import { unpack } from "./unpack.ts";

const ENTRY_COUNT_MAX = 100_000;
const DEPTH_MAX = 64;

export interface DownloadOptions {
  readonly client: Client;
  readonly sandbox: Sandbox;
  readonly source: string;
  readonly target: string;
  readonly user: string | undefined;
  readonly byteCountMax: number;
  readonly report: CopyReport;
  readonly signal: AbortSignal;
}

/** Copies a file or a directory of a sandbox to this machine. */
export async function download(options: DownloadOptions): Promise<void> {
  const { sandbox, user, signal } = options;
  const source = await sandbox.files.stat(options.source, { user, signal });
  const target = await targetOf(options, source.type === "directory");
  if (source.type === "directory") await downloadTree(options, target);
  else await downloadFile(options, source, target);
}

async function targetOf(options: DownloadOptions, isDirectory: boolean): Promise<string> {
  const { source, target } = options;
  const there = await stat(target).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (there?.isDirectory() === true) {
    const contentOnly = isDirectory && /\/\.\/?$/.test(source);
    const name = posix.basename(posix.normalize(source));
    return contentOnly || name === "" || name === "/" ? target : join(target, name);
  }
  if (there !== undefined && isDirectory) {
    throw new BelljarError(
      "FILE_NOT_DIRECTORY",
      `${target} is a file, and ${source} a directory in the sandbox`,
      { path: target },
    );
  }
  if (there === undefined && !isDirectory && target.endsWith("/")) {
    throw new BelljarError("FILE_NOT_DIRECTORY", `${target} is not a directory`, { path: target });
  }
  return target;
}

/** Written beside its place and moved there when whole: an interrupted copy leaves what was there. */
async function downloadFile(
  options: DownloadOptions,
  source: FileStat,
  target: string,
): Promise<void> {
  const { sandbox, user, signal, report } = options;
  const directory = dirname(target);
  const temporary = `.${basename(target)}.${randomBytes(6).toString("hex")}`;
  const stream = await sandbox.files.readStream(options.source, { user, signal });
  try {
    await new TargetDirectory(directory).file(
      [temporary],
      parseMode(source.mode),
      limited(stream, options),
    );
    const there = await lstat(target).catch(() => undefined);
    if (there?.isDirectory() === true)
      throw new BelljarError("FILE_IS_DIRECTORY", `${target} is a directory`, { path: target });
    await rename(join(directory, temporary), target);
  } finally {
    await rm(join(directory, temporary), { force: true });
  }
  report.file();
}

async function downloadTree(options: DownloadOptions, target: string): Promise<void> {
  const { byteCountMax, report } = options;
  try {
    await runTar(options, {
      argv: ["tar", "-c", "-f", "-", "-C", options.source, "."],
      take: (archive) => unpack(archive, { root: target, byteCountMax, report }),
    });
  } catch (error) {
    if (!BelljarError.is(error, "EXEC_NOT_FOUND")) throw error;
    const directory = new TargetDirectory(target);
    await downloadDirectory(options, directory, []);
    await directory.finish();
  }
}

/** Without a tar inside, through the files API. */
async function downloadDirectory(
  options: DownloadOptions,
  target: TargetDirectory,
  parts: readonly string[],
): Promise<void> {
  const { sandbox, user, signal, report } = options;
  const path = posix.join(options.source, ...parts);
  if (parts.length > DEPTH_MAX)
    throw new BelljarError("BODY_TOO_LARGE", `${path} lies too deep to be copied without tar`);
  const list = await sandbox.files.list(path, { user, limit: ENTRY_COUNT_MAX, signal });
  if (list.truncated)
    throw new BelljarError("BODY_TOO_LARGE", `${path} holds more than ${ENTRY_COUNT_MAX} entries`);
  await target.directory(parts, undefined);
  for (const entry of list.items) {
    const own = [...parts, ...singlePart(entry.name)];
    if (entry.type === "directory") {
      await downloadDirectory(options, target, own);
      await target.directory(own, parseMode(entry.mode));
      report.summary.directoryCount += 1;
    } else if (entry.type === "file") {
      const stream = await sandbox.files.readStream(posix.join(options.source, ...own), {
        user,
        signal,
      });
      await target.file(own, parseMode(entry.mode), limited(stream, options));
      report.file();
    } else if (entry.type === "symlink" && staysInside(entry.symlinkTarget ?? "", own.length - 1)) {
      await target.symlink(own, entry.symlinkTarget ?? "");
      report.summary.symlinkCount += 1;
    } else {
      report.refuse(
        own.join("/"),
        entry.type === "symlink"
          ? "it is a link that leads out of the target"
          : `it is a ${entry.type}`,
      );
    }
  }
}

function singlePart(name: string): string[] {
  const parts = safeParts(name);
  if (parts.length !== 1)
    throw new BelljarError(
      "FILE_PATH_INVALID",
      `the sandbox names an entry ${JSON.stringify(name)}`,
      { name },
    );
  return parts;
}

async function* limited(
  stream: AsyncIterable<Uint8Array>,
  options: DownloadOptions,
): AsyncGenerator<Uint8Array> {
  for await (const data of stream) {
    options.report.bytes(data.byteLength);
    if (options.report.summary.byteCount > options.byteCountMax) {
      throw new BelljarError(
        "BODY_TOO_LARGE",
        `more than ${options.byteCountMax} bytes; raise --max-size if that is what you want`,
      );
    }
    yield data;
  }
}

function parseMode(text: string): number {
  return Number.parseInt(text, 8);
}
