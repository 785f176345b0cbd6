import { createWriteStream } from "node:fs";
import { open, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { BelljarError } from "@belljar/protocol";
import type { Context } from "../command.ts";
import { errorSaidIn } from "../daemon-error.ts";
import { dataDirOf, logFile, readStoredClient, storeClient } from "../data-dir.ts";
import { formatLogLine } from "../daemon-log.ts";
import {
  type DaemonProcess,
  findServing,
  type ReadyLine,
  startDaemon,
  waitForReady,
} from "../daemon-start.ts";
import { EXIT } from "../failure.ts";
import type { Input } from "../input.ts";
import { LineSplitter } from "../lines.ts";
import { poll } from "../poll.ts";
import { formatDuration } from "../values/duration.ts";

const READY_WAIT_MS = 60_000;
const LOG_TAIL_BYTES = 8 * 1024;
const LOG_TAIL_LINES = 8;
const STOP_GRACE_MS = 30_000;
/** A daemon that another `up` has just started may need a moment until it serves */
const OTHER_START_WAIT_MS = 10_000;

/** `belljar up` */
export async function up(context: Context, input: Input): Promise<number | void> {
  const dataDir = dataDirOf(context.globals.dataDir);
  const serving = await findServing(dataDir);
  if (serving !== undefined) {
    if (!input.flag("detach")) {
      const message = `a daemon already serves ${dataDir} (pid ${serving.pid}, ${serving.url})`;
      throw new BelljarError("DATA_DIR_IN_USE", message, {
        dataDir,
        pid: serving.pid,
        url: serving.url,
      });
    }
    context.output.say(`already running on ${dataDir}`);
    return announce(context, dataDir, { url: serving.url, pid: serving.pid, token: undefined });
  }
  return input.flag("detach")
    ? upDetached(context, input, dataDir)
    : upForeground(context, input, dataDir);
}

function daemonFlags(input: Input): string[] {
  const flags: string[] = [];
  const port = input.number("port");
  const host = input.text("host");
  const domain = input.text("domain");
  const config = input.text("config");
  if (port !== undefined) flags.push("--port", String(port));
  if (host !== undefined) flags.push("--host", host);
  if (domain !== undefined) flags.push("--previews.domain", domain);
  if (config !== undefined) flags.push("--config", resolve(config));
  return flags;
}

async function upDetached(context: Context, input: Input, dataDir: string): Promise<void> {
  const logStart = await sizeOf(logFile(dataDir));
  const child = await startDaemon({ dataDir, flags: daemonFlags(input), detached: true });
  const waitMs = input.number("wait") ?? READY_WAIT_MS;
  const ready = await context.output.progress("starting the daemon", () =>
    readyInTime(child, waitMs, context.signal),
  );
  if (ready !== undefined) return announce(context, dataDir, ready);
  const serving = await poll(() => findServing(dataDir), {
    timeoutMs: await othersWaitMs(dataDir, logStart),
  });
  if (serving !== undefined)
    return announce(context, dataDir, { url: serving.url, pid: serving.pid, token: undefined });
  throw await startFailure(dataDir, logStart);
}

/** Two starts at once: the data directory's lock lets one through, and the other's job is done too. */
async function othersWaitMs(dataDir: string, logStart: number): Promise<number> {
  return (await readLogFrom(dataDir, logStart)).includes("DATA_DIR_IN_USE")
    ? OTHER_START_WAIT_MS
    : 0;
}

async function readyInTime(
  child: DaemonProcess,
  waitMs: number,
  signal: AbortSignal,
): Promise<ReadyLine | undefined> {
  const timer = AbortSignal.timeout(waitMs);
  const stop = AbortSignal.any([timer, signal]);
  const stopped = new Promise<never>((_, reject) => {
    stop.addEventListener("abort", () => {
      child.kill("SIGTERM");
      reject(
        new BelljarError("TIMED_OUT", `the daemon was not ready after ${formatDuration(waitMs)}`, {
          waitMs,
        }),
      );
    });
  });
  return Promise.race([waitForReady(child), stopped]);
}

async function upForeground(context: Context, input: Input, dataDir: string): Promise<number> {
  const child = await startDaemon({ dataDir, flags: daemonFlags(input), detached: false });
  const ended = new Promise<number>((resolveExit) => {
    child.once("exit", (code, signal) =>
      resolveExit(code ?? (signal === null ? EXIT.ok : EXIT.failed)),
    );
  });
  showLog(context, child, dataDir);
  context.signal.addEventListener("abort", () => stopGently(child));
  if (context.signal.aborted) stopGently(child);
  const ready = await waitForReady(child);
  if (ready !== undefined) {
    await announce(context, dataDir, ready);
    context.output.say("Ctrl-C stops it.");
  }
  return ended;
}

function stopGently(child: DaemonProcess): void {
  child.kill("SIGTERM");
  setTimeout(() => child.kill("SIGKILL"), STOP_GRACE_MS).unref();
}

/** The log goes to the terminal and, so that `belljar logs` has it, to the file. */
function showLog(context: Context, child: DaemonProcess, dataDir: string): void {
  const file = createWriteStream(logFile(dataDir), { flags: "a", mode: 0o600 });
  file.on("error", (error) => context.output.warn(`cannot write the log: ${error.message}`));
  const splitter = new LineSplitter((line) => {
    file.write(`${line}\n`);
    const paint = context.output.paintError.bind(context.output);
    process.stderr.write(`${context.output.json ? line : formatLogLine(line, paint)}\n`);
  });
  child.stderr?.on("data", (data: Buffer) => splitter.push(data));
  child.stderr?.on("end", () => splitter.end());
}

async function announce(context: Context, dataDir: string, ready: ReadyLine): Promise<void> {
  const stored = await readStoredClient(dataDir);
  const token = ready.token ?? stored?.token;
  if (token !== undefined) await storeClient(dataDir, { url: ready.url, token });
  else
    context.output.warn(
      `client.json of ${dataDir} is gone: give a token with --token, or set auth.tokens and start again`,
    );
  if (context.output.json) {
    context.output.data({ url: ready.url, token: token ?? null, pid: ready.pid });
    return;
  }
  context.output.facts([
    ["url", ready.url],
    ["pid", String(ready.pid)],
    ["data", dataDir],
    ...(ready.token === undefined
      ? []
      : ([["token", `${ready.token} (kept in client.json of the data directory)`]] as const)),
  ]);
}

async function startFailure(dataDir: string, logStart: number): Promise<BelljarError> {
  const text = await readLogFrom(dataDir, logStart);
  const said = errorSaidIn(text);
  if (said !== undefined) return said;
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  const shown = lines.slice(-LOG_TAIL_LINES).map((line) => formatLogLine(line, (_, part) => part));
  const what = shown.length === 0 ? "it said nothing" : shown.join("\n  ");
  return new BelljarError("INTERNAL", `the daemon did not start: ${what}`, {
    log: logFile(dataDir),
  });
}

async function sizeOf(path: string): Promise<number> {
  const facts = await stat(path).catch(() => undefined);
  return facts?.size ?? 0;
}

async function readLogFrom(dataDir: string, start: number): Promise<string> {
  const file = await open(logFile(dataDir), "r").catch(() => undefined);
  if (file === undefined) return "";
  try {
    const end = (await file.stat()).size;
    // A log that has just been rotated is shorter than it was.
    const from = Math.max(start <= end ? start : 0, end - LOG_TAIL_BYTES);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - from), 0, end - from, from);
    return buffer.subarray(0, bytesRead).toString("utf8");
  } finally {
    await file.close();
  }
}
