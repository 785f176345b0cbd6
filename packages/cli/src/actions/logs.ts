import { watch } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import { formatLogLine } from "../daemon-log.ts";
import { dataDirOf, logFile } from "../data-dir.ts";
import { UsageError } from "../failure.ts";
import type { Input } from "../input.ts";
import { LineSplitter } from "../lines.ts";

const LINES_DEFAULT = 100;
const TAIL_BYTES_MAX = 4 * 1024 * 1024;
const READ_BYTES = 64 * 1024;

/** `belljar logs` */
export async function logs(context: Context, input: Input): Promise<void> {
  const sandbox = input.text("sandbox");
  if (sandbox === undefined) await daemonLogs(context, input);
  else await sandboxLogs(context, sandbox, input.flag("follow"));
}

async function sandboxLogs(context: Context, idOrName: string, follow: boolean): Promise<void> {
  const client = await openClient(context);
  const sandbox = await client.sandbox(idOrName, context.signal);
  const stream = await sandbox.logs({ follow, signal: context.signal });
  for await (const data of stream) await context.output.bytes("stdout", data);
}

async function daemonLogs(context: Context, input: Input): Promise<void> {
  if (context.globals.url !== undefined) {
    throw new UsageError(
      "the daemon's log is read on its own machine",
      "Leave --url out, and name its --data-dir.",
    );
  }
  const path = logFile(dataDirOf(context.globals.dataDir));
  const file = await open(path, "r");
  try {
    const paint = context.output.paint.bind(context.output);
    const print = (line: string) =>
      context.output.page(`${context.output.json ? line : formatLogLine(line, paint)}\n`);
    const end = await printTail(file, input.number("lines") ?? LINES_DEFAULT, print);
    if (input.flag("follow"))
      await followFile(path, file, { from: end, print, signal: context.signal });
  } finally {
    await file.close();
  }
}

async function printTail(
  file: FileHandle,
  lineCount: number,
  print: (line: string) => void,
): Promise<number> {
  const end = (await file.stat()).size;
  const from = Math.max(0, end - TAIL_BYTES_MAX);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(end - from), 0, end - from, from);
  const lines = buffer
    .subarray(0, bytesRead)
    .toString("utf8")
    .split("\n")
    .filter((line) => line !== "");
  if (lineCount > 0) for (const line of lines.slice(-lineCount)) print(line);
  return end;
}

interface FollowOptions {
  readonly from: number;
  readonly print: (line: string) => void;
  readonly signal: AbortSignal;
}

/** Prints what is appended until the signal. The file is asked whenever the kernel says it changed. */
async function followFile(path: string, file: FileHandle, options: FollowOptions): Promise<void> {
  const splitter = new LineSplitter(options.print);
  const buffer = Buffer.alloc(READ_BYTES);
  let position = options.from;
  let wake: (() => void) | undefined;
  const watcher = watch(path, () => wake?.());
  options.signal.addEventListener("abort", () => wake?.());
  try {
    while (!options.signal.aborted) {
      const changed = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const { bytesRead } = await file.read(buffer, 0, READ_BYTES, position);
      position += bytesRead;
      splitter.push(buffer.subarray(0, bytesRead));
      if (bytesRead === 0 && !options.signal.aborted) await changed;
    }
  } finally {
    watcher.close();
  }
}
