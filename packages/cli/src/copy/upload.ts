import { createReadStream, type ReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, posix, resolve } from "node:path";
import { BelljarError, type FileStat } from "@belljar/protocol";
import type { Sandbox } from "@belljar/sdk";
import { pack } from "tar-stream";
import type { Client } from "../client.ts";
import { type LocalEntry, walkTree } from "./local-tree.ts";
import { runTar } from "./remote-tar.ts";
import type { CopyReport } from "./report.ts";

const PERMISSION_BITS = 0o7777;

export interface UploadOptions {
  readonly client: Client;
  readonly sandbox: Sandbox;
  readonly source: string;
  readonly target: string;
  readonly user: string | undefined;
  readonly report: CopyReport;
  readonly signal: AbortSignal;
}

/** Copies a file or a directory of this machine into a sandbox. */
export async function upload(options: UploadOptions): Promise<void> {
  const facts = await stat(options.source);
  const target = await targetOf(options, facts.isDirectory());
  if (facts.isDirectory()) await uploadTree(options, target);
  else if (facts.isFile())
    await uploadFile(options, { path: options.source, target, mode: facts.mode });
  else
    throw new BelljarError(
      "FILE_NOT_REGULAR",
      `${options.source} is neither a file nor a directory`,
    );
}

/** A target that is a directory takes the source inside, unless only the source's content is asked for. */
async function targetOf(options: UploadOptions, isDirectory: boolean): Promise<string> {
  const { target, source } = options;
  const there = await remoteStat(options, target);
  const contentOnly = isDirectory && /(^|\/)\.\/?$/.test(source);
  if (there?.type === "directory")
    return contentOnly ? target : posix.join(target, basename(resolve(source)));
  if (there !== undefined && isDirectory) {
    throw new BelljarError(
      "FILE_NOT_DIRECTORY",
      `${target} is a file in the sandbox, and ${source} a directory`,
      { path: target },
    );
  }
  if (!isDirectory && target.endsWith("/")) {
    throw new BelljarError("FILE_NOT_DIRECTORY", `${target} is not a directory in the sandbox`, {
      path: target,
    });
  }
  return target;
}

async function remoteStat(options: UploadOptions, path: string): Promise<FileStat | undefined> {
  try {
    return await options.sandbox.files.stat(path, { user: options.user, signal: options.signal });
  } catch (error) {
    if (BelljarError.is(error, "FILE_NOT_FOUND")) return undefined;
    throw error;
  }
}

async function uploadFile(
  options: UploadOptions,
  file: { path: string; target: string; mode: number },
): Promise<void> {
  const { report, sandbox, user, signal } = options;
  const mode = octal(file.mode);
  await sandbox.files.write(file.target, counted(chunksOf(createReadStream(file.path)), report), {
    user,
    mode,
    signal,
  });
  report.file();
}

async function uploadTree(options: UploadOptions, target: string): Promise<void> {
  const { sandbox, user, signal } = options;
  await sandbox.files.makeDirectory(target, { user, parents: true, signal });
  try {
    // -p keeps the modes whatever the umask inside; -o leaves the files to the user who unpacks.
    await runTar(options, {
      argv: ["tar", "-x", "-p", "-o", "-f", "-", "-C", target],
      input: archiveOf(options),
    });
  } catch (error) {
    if (!BelljarError.is(error, "EXEC_NOT_FOUND")) throw error;
    options.report.summary.symlinkCount = 0;
    await uploadOneByOne(options, target);
  }
}

/** The tree as a tar stream that is made while it is sent. */
function archiveOf(options: UploadOptions): AsyncIterable<Uint8Array> {
  const archive = pack();
  void fill().catch((error: Error) => archive.destroy(error));
  // A pack is a stream of bytes; its types leave open of what.
  return archive as AsyncIterable<Uint8Array>;

  async function fill(): Promise<void> {
    for await (const entry of walkTree(options.source))
      await addEntry(archive, entry, options.report);
    archive.finalize();
  }
}

async function addEntry(
  archive: ReturnType<typeof pack>,
  entry: LocalEntry,
  report: CopyReport,
): Promise<void> {
  const { facts } = entry;
  const header = {
    name: entry.name,
    mode: facts.mode & PERMISSION_BITS,
    mtime: facts.mtime,
    uid: 0,
    gid: 0,
  };
  if (facts.isDirectory()) {
    archive.entry({ ...header, type: "directory" });
    report.summary.directoryCount += 1;
  } else if (entry.target !== undefined) {
    archive.entry({ ...header, type: "symlink", linkname: entry.target });
    report.summary.symlinkCount += 1;
  } else if (facts.isFile()) {
    await addFile(archive, entry, header, report);
    report.file();
  } else {
    report.refuse(entry.name, "it is neither a file, a directory nor a link");
  }
}

async function addFile(
  archive: ReturnType<typeof pack>,
  entry: LocalEntry,
  header: object,
  report: CopyReport,
): Promise<void> {
  const { size } = entry.facts;
  const sink = archive.entry({ ...header, name: entry.name, type: "file", size });
  if (size === 0) {
    sink.end(undefined);
    return;
  }
  let sent = 0;
  // The header has promised `size` bytes: a file that grows meanwhile is cut there, one that shrinks cannot be sent.
  for await (const data of chunksOf(createReadStream(entry.path, { end: size - 1 }))) {
    sent += data.length;
    report.bytes(data.length);
    if (!sink.write(data)) await new Promise<void>((go) => sink.once("drain", () => go()));
  }
  if (sent !== size)
    throw new BelljarError("FILE_FAILED", `${entry.path} changed while it was copied`, {
      path: entry.path,
    });
  sink.end(undefined);
}

/** Without a tar inside, through the files API; it makes no links, so those are refused. */
async function uploadOneByOne(options: UploadOptions, target: string): Promise<void> {
  const { report, sandbox, user, signal } = options;
  for await (const entry of walkTree(options.source)) {
    const path = posix.join(target, entry.name);
    if (entry.facts.isDirectory()) {
      await sandbox.files.makeDirectory(path, {
        user,
        mode: octal(entry.facts.mode),
        parents: true,
        signal,
      });
      report.summary.directoryCount += 1;
    } else if (entry.facts.isFile()) {
      await uploadFile(options, { path: entry.path, target: path, mode: entry.facts.mode });
    } else {
      report.refuse(
        entry.name,
        "without a tar program inside, only files and directories can be copied",
      );
    }
  }
}

/** A read stream without an encoding yields bytes; its types leave that open. */
function chunksOf(stream: ReadStream): AsyncIterable<Uint8Array> {
  return stream;
}

async function* counted(
  source: AsyncIterable<Uint8Array>,
  report: CopyReport,
): AsyncGenerator<Uint8Array> {
  for await (const data of source) {
    report.bytes(data.byteLength);
    yield data;
  }
}

function octal(mode: number): string {
  return (mode & PERMISSION_BITS).toString(8).padStart(4, "0");
}
