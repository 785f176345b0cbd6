import { type ChildProcess, spawn, type SpawnOptions } from "node:child_process";
import { once } from "node:events";

const TERM_GRACE_MS = 5_000;
const OUTPUT_KEPT_CHARS_MAX = 64 * 1024;

/** A program that a test or a bench started, and therefore ends, by its own pid. */
export interface Child extends AsyncDisposable {
  readonly pid: number;
  readonly process: ChildProcess;
  /** The end of what it printed on both streams, for messages */
  output(): string;
  /** Resolves with the exit code, null if a signal ended it */
  readonly exited: Promise<number | null>;
  /** TERM, then KILL after a grace period; resolves when it is gone */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Starts `argv` with stdout and stderr kept in a bounded tail.
 *
 * @throws an Error naming the program when it cannot be started
 */
export async function startChild(
  argv: readonly string[],
  options: SpawnOptions = {},
): Promise<Child> {
  const [program = "", ...args] = argv;
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let tail = "";
  const keep = (chunk: Buffer) => {
    tail = (tail + chunk.toString()).slice(-OUTPUT_KEPT_CHARS_MAX);
  };
  child.stdout?.on("data", keep);
  child.stderr?.on("data", keep);
  await once(child, "spawn");
  const exited = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const stop = async (signal: NodeJS.Signals = "SIGTERM") => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    const force = setTimeout(() => child.kill("SIGKILL"), TERM_GRACE_MS);
    await exited;
    clearTimeout(force);
  };
  return {
    pid: child.pid ?? 0,
    process: child,
    output: () => tail,
    exited,
    stop,
    [Symbol.asyncDispose]: () => stop(),
  };
}

/** What a finished program left. */
export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `argv` to its end; `input` goes to its standard input. */
export async function run(
  argv: readonly string[],
  options: SpawnOptions & { input?: string; timeoutMs?: number } = {},
): Promise<Finished> {
  const { input, timeoutMs = 60_000, ...rest } = options;
  const [program = "", ...args] = argv;
  const child = spawn(program, args, { stdio: ["pipe", "pipe", "pipe"], ...rest });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => err.push(chunk));
  child.stdin?.on("error", () => undefined);
  child.stdin?.end(input ?? "");
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  clearTimeout(timer);
  return {
    code,
    stdout: Buffer.concat(out).toString(),
    stderr: Buffer.concat(err).toString(),
  };
}
