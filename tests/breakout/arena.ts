import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { homedir, networkInterfaces } from "node:os";
import path from "node:path";
import type { ExecResult } from "@belljar/protocol";
import { type Child, run, startChild } from "../e2e/support/child.ts";
import { type DaemonProcess, startDaemon, stopAndLook } from "../e2e/support/daemon-process.ts";
import { guestPidOf } from "../e2e/support/guests.ts";
import type { Leftovers } from "../e2e/support/leftovers.ts";
import { temporaryDirectory } from "../e2e/support/machine.ts";

/** Who attacks: the ordinary user, and root inside, who owns the sandbox. */
export type Attacker = "user" | "root";

/** Something of the host's that no sandbox may find. */
export interface Canary {
  readonly file: string;
  readonly text: string;
}

/** Where the attacks run: a daemon with an attacker's and a neighbour's sandbox, and bait on the host. */
export interface Arena {
  readonly daemon: DaemonProcess;
  readonly attacker: string;
  readonly neighbour: string;
  /** The pid of the attacker's PID 1, as the host sees it */
  readonly guestPid: number;
  readonly neighbourPid: number;
  readonly canaries: readonly Canary[];
  /** A value of the daemon's environment */
  readonly secret: string;
  /** A process of the host's that attacks try to end */
  readonly victim: Child;
  /** Listeners of the host's, each with the number of connections it has seen */
  readonly bait: readonly Bait[];
  /** The static program of `probe.c`, on the host */
  readonly probe: string;
  /** Runs a line of shell in the attacker's sandbox */
  inside(line: string, who?: Attacker, timeoutMs?: number): Promise<ExecResult>;
  /** Runs the same on the host: the negative control */
  outside(line: string): Promise<{ stdout: string; stderr: string; code: number | null }>;
}

/** A listener on the host. */
export interface Bait {
  readonly what: string;
  /** Arguments of the connecting probe: a host and a port, or a path */
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  seen(): number;
}

const BAIT_BANNER = "belljar-bait\n";

async function listen(
  target: net.ListenOptions,
  facts: Omit<Bait, "seen" | "port">,
  stack: AsyncDisposableStack,
): Promise<Bait> {
  const count = { seen: 0 };
  const server = net.createServer((socket) => {
    count.seen += 1;
    socket.on("error", () => undefined);
    socket.end(BAIT_BANNER);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(target, resolve);
  });
  stack.defer(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? { port: address.port } : {};
  return { ...facts, ...port, seen: () => count.seen };
}

async function layBait(directory: string, stack: AsyncDisposableStack): Promise<Bait[]> {
  const socketPath = path.join(directory, "bait.sock");
  const name = `belljar-bait-${randomBytes(6).toString("hex")}`;
  const bait = [
    await listen(
      { host: "127.0.0.1", port: 0 },
      { what: "the host's loopback", host: "127.0.0.1" },
      stack,
    ),
    await listen(
      { path: socketPath },
      { what: "a socket file of the host", path: socketPath },
      stack,
    ),
    await listen(
      { path: `\0${name}` },
      { what: "an abstract socket of the host", path: `\0${name}` },
      stack,
    ),
  ];
  const interfaces = Object.values(networkInterfaces()).flat();
  const outer = interfaces.find(
    (one) => one !== undefined && !one.internal && one.family === "IPv4",
  );
  if (outer !== undefined) {
    const { address } = outer;
    // Bound to the address itself, so that only this machine's own addresses are involved.
    bait.push(
      await listen(
        { host: address, port: 0 },
        { what: "the host's outer address", host: address },
        stack,
      ),
    );
  }
  return bait;
}

function layCanaries(stack: AsyncDisposableStack): Canary[] {
  const places =
    process.getuid?.() === 0
      ? ["/root", "/home", "/var/tmp", "/var/lib", "/run", "/etc", "/tmp", "/opt", "/srv"]
      : [homedir(), "/var/tmp", "/tmp"];
  return places.flatMap((place) => {
    try {
      const directory = mkdtempSync(path.join(place, "belljar-canary-"));
      stack.defer(() => rmSync(directory, { recursive: true, force: true }));
      const canary = {
        file: path.join(directory, "canary"),
        text: `canary-${randomBytes(12).toString("hex")}`,
      };
      writeFileSync(canary.file, `${canary.text}\n`, { mode: 0o644 });
      return [canary];
    } catch {
      return [];
    }
  });
}

async function buildProbe(directory: string): Promise<string> {
  const output = path.join(directory, "probe");
  const source = path.join(import.meta.dirname, "probe.c");
  const built = await run(["cc", "-static", "-O1", "-o", output, source]);
  if (built.code !== 0) throw new Error(`probe.c does not build: ${built.stderr}`);
  return output;
}

async function startDaemonWithSecret(secret: string): Promise<DaemonProcess> {
  process.env["ARENA_CANARY_SECRET"] = secret;
  try {
    return await startDaemon();
  } finally {
    delete process.env["ARENA_CANARY_SECRET"];
  }
}

/** Sets the arena up; disposing of `stack` takes the bait away. */
export async function openArena(stack: AsyncDisposableStack): Promise<Arena> {
  const { path: directory } = stack.use(temporaryDirectory("arena"));
  mkdirSync(path.join(directory, "home"));
  const secret = `secret-${randomBytes(12).toString("hex")}`;
  const daemon = stack.use(await startDaemonWithSecret(secret));
  const { api } = daemon;
  const limits = { memoryBytes: 256 * 2 ** 20, processCountMax: 128 };
  const attacker = (await api.create({ name: "attacker", limits, ports: [8080] })).id;
  const neighbour = (await api.create({ name: "neighbour", limits })).id;
  daemon.sandboxIds.add(attacker).add(neighbour);
  const probe = await buildProbe(directory);
  await api.write(attacker, "/home/user/probe", readFileSync(probe), "&mode=0755");
  return {
    daemon,
    attacker,
    neighbour,
    guestPid: guestPidOf(daemon.dataDir, attacker),
    neighbourPid: guestPidOf(daemon.dataDir, neighbour),
    canaries: layCanaries(stack),
    secret,
    victim: stack.use(await startChild(["sleep", "86400"])),
    bait: await layBait(directory, stack),
    probe,
    inside: (line, who = "user", timeoutMs = 60_000) =>
      api.exec(attacker, line, { user: who, timeoutMs }),
    outside: (line) => run(["/bin/sh", "-c", line], { timeoutMs: 60_000 }),
  };
}

/** Ends the sandboxes and says what is left of them. */
export function closeArena(arena: Arena): Promise<Leftovers> {
  return stopAndLook(arena.daemon);
}
