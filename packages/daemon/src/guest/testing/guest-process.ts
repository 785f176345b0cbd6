/** The real guest as a child of a test, PID 1 of namespaces of its own, built by `make` where it is missing. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect as connectSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Duplex } from "node:stream";
import { GuestClient } from "../client.ts";

const SOURCE = join(import.meta.dirname, "../../../../../native/guest");

export const BUILDS = ["guest", "guest-asan"] as const;
export type Build = (typeof BUILDS)[number];

export interface GuestProcess extends AsyncDisposable {
  readonly client: GuestClient;
  /** A directory that the guest sees too, open to every user */
  readonly directory: string;
  /** The guest's PID as the test sees it */
  readonly pid: number;
  connect(): Promise<Duplex>;
  /** Private resident bytes, so without pages that are the file's */
  residentBytes(): number;
  /** Everything the guest and its sanitizers complained about */
  complaints(): string;
}

function build(target: string): string {
  const path = join(SOURCE, "build", target);
  const goal = { guest: "all", "guest-asan": "asan", launch: "test-tools" }[target] ?? "all";
  execFileSync("make", ["-s", "-C", SOURCE, goal], { stdio: "pipe" });
  if (!existsSync(path)) throw new Error(`${path} was not built`);
  return path;
}

/** `single-uid`: a user namespace with one id mapped, as where Belljar runs without root. */
export async function startGuest(
  name: Build = "guest",
  mode: "namespaces" | "single-uid" = process.getuid?.() === 0 ? "namespaces" : "single-uid",
): Promise<GuestProcess> {
  const directory = mkdtempSync(join(tmpdir(), "belljar-guest-"));
  chmodSync(directory, 0o777);
  const socketPath = join(directory, "socket");
  const child = spawn(build("launch"), [`--${mode}`, socketPath, build(name), "--listen-fd", "3"], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" },
  });
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints = (complaints + text).slice(-100_000);
  });
  const exited = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  await Promise.race([once(lines, "line"), exited]);
  if (child.exitCode !== null) throw new Error(`the guest did not start: ${complaints}`);
  const connect = (): Promise<Duplex> => Promise.resolve(connectSocket(socketPath));
  const client = new GuestClient(connect);
  await client.hello();
  const pid = Number(readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").trim());
  return {
    client,
    directory,
    pid,
    connect,
    complaints: () => complaints,
    residentBytes() {
      const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
      return Number(/Private_Dirty:\s+(\d+)/u.exec(rollup)?.[1]) * 1024;
    },
    async [Symbol.asyncDispose]() {
      // The end of PID 1 is the end of everything in its namespace.
      killIfThere(pid);
      await exited;
      rmSync(directory, { recursive: true, force: true });
      if (/Sanitizer|runtime error/u.test(complaints)) throw new Error(complaints);
    },
  };
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended between the look and the signal.
  }
}

/** Everything a command wrote, and how it ended. */
export async function run(
  client: GuestClient,
  command: string[],
  more: Partial<Parameters<GuestClient["exec"]>[0]> = {},
): Promise<{
  stdout: string;
  stderr: string;
  exitCode: number | null;
  signal: string | null;
  reason: string;
}> {
  const session = await client.exec({ command, env: {}, ...more });
  const chunks = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] };
  for await (const { stream, data } of session.output) chunks[stream].push(data);
  const { exitCode, signal, reason } = await session.exited;
  const text = (parts: Uint8Array[]): string => Buffer.concat(parts).toString();
  return { stdout: text(chunks.stdout), stderr: text(chunks.stderr), exitCode, signal, reason };
}
