import { type ChildProcessByStdio, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { rename, stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { logFile, type RunningDaemon, readRunningDaemon } from "./data-dir.ts";
import { daemonCommand, daemonEnvironment } from "./daemon-program.ts";
import { LineSplitter } from "./lines.ts";
import { makeDirectory } from "./make-directory.ts";
import { isDaemon } from "./process-table.ts";

const LOG_BYTES_MAX = 32 * 1024 * 1024;
const PRIVATE_FILE = 0o600;
const PRIVATE_DIRECTORY = 0o700;
const ANSWER_TIMEOUT_MS = 2000;

/** The one line that the daemon prints on standard output when it can serve. */
export interface ReadyLine {
  readonly url: string;
  readonly pid: number;
  /** Only at the very first start on a data directory */
  readonly token: string | undefined;
}

export type DaemonProcess = ChildProcessByStdio<null, Readable, Readable | null>;

export interface StartOptions {
  readonly dataDir: string;
  readonly flags: readonly string[];
  /** Standard error goes to the log file; otherwise to a pipe that the caller reads */
  readonly detached: boolean;
}

/** The daemon that serves on a data directory, if one does. */
export async function findServing(dataDir: string): Promise<RunningDaemon | undefined> {
  const running = await readRunningDaemon(dataDir);
  if (running === undefined || !isDaemon(running.pid)) return undefined;
  try {
    const answer = await fetch(new URL("/readyz", running.url), {
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
    });
    await answer.body?.cancel();
    return answer.ok ? running : undefined;
  } catch {
    // It is starting, stopping or hung: not one that serves.
    return undefined;
  }
}

/** Starts the daemon in a session of its own, so that a Ctrl-C in the terminal reaches it once, through us. */
export async function startDaemon(options: StartOptions): Promise<DaemonProcess> {
  const { program, entry } = await daemonCommand();
  await prepareDataDir(options.dataDir);
  const argv = [entry, "--ready-json", "--data-dir", options.dataDir, ...options.flags];
  const log = options.detached ? openSync(logFile(options.dataDir), "a", PRIVATE_FILE) : undefined;
  try {
    // The types of spawn tell apart three literal shapes of stdio; here the third is decided at run time.
    return spawn(program, argv, {
      cwd: "/",
      detached: true,
      env: daemonEnvironment(),
      stdio: ["ignore", "pipe", log ?? "pipe"],
    }) as DaemonProcess;
  } finally {
    if (log !== undefined) closeSync(log);
  }
}

async function prepareDataDir(dataDir: string): Promise<void> {
  try {
    await makeDirectory(dataDir, PRIVATE_DIRECTORY);
    const path = logFile(dataDir);
    const facts = await stat(path).catch(() => undefined);
    if (facts !== undefined && facts.size > LOG_BYTES_MAX) await rename(path, `${path}.1`);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new BelljarError(
      "DATA_DIR_UNUSABLE",
      `cannot use ${dataDir}: ${why}`,
      { dataDir },
      { cause: error },
    );
  }
}

/** Resolves with the ready line; with undefined when the daemon ended without one. */
export function waitForReady(child: DaemonProcess): Promise<ReadyLine | undefined> {
  return new Promise((resolve, reject) => {
    const splitter = new LineSplitter((line) => {
      const ready = parseReadyLine(line);
      if (ready !== undefined) resolve(ready);
    });
    child.stdout.on("data", (data: Buffer) => splitter.push(data));
    child.once("error", reject);
    child.once("exit", () => resolve(undefined));
  });
}

function parseReadyLine(line: string): ReadyLine | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (
      typeof value !== "object" ||
      value === null ||
      !("event" in value) ||
      value.event !== "ready"
    )
      return undefined;
    if (
      !("url" in value) ||
      typeof value.url !== "string" ||
      !("pid" in value) ||
      typeof value.pid !== "number"
    )
      return undefined;
    const token = "token" in value && typeof value.token === "string" ? value.token : undefined;
    return { url: value.url, pid: value.pid, token };
  } catch {
    // Not JSON: nothing that announces readiness.
    return undefined;
  }
}
