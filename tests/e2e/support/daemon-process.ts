import { existsSync } from "node:fs";
import path from "node:path";
import { Api } from "./api.ts";
import { type Child, startChild } from "./child.ts";
import { findLeftovers, learnCgroups, type Leftovers, processesOf } from "./leftovers.ts";
import { daemonNode, freePort, REPOSITORY, temporaryDirectory, until } from "./machine.ts";

const READY_TIMEOUT_MS = 60_000;
const GONE_TIMEOUT_MS = 20_000;

/** How a daemon is started. */
export interface DaemonOptions {
  /** An existing directory; default: a temporary one that goes with the daemon */
  readonly dataDir?: string;
  readonly port?: number;
  /** Further arguments, such as `["--previews.domain", "example.test"]` */
  readonly args?: readonly string[];
  /** The repository as the daemon sees it; default: this one */
  readonly repository?: string;
  /** Runs the daemon as this user; the data directory must be that user's */
  readonly uid?: number;
  /** The token of an earlier start on the same data directory, which is printed only once */
  readonly token?: string;
}

interface ReadyLine {
  readonly event: string;
  readonly url: string;
  readonly pid: number;
  readonly token?: string;
}

/** The real daemon as a child process, on a data directory and a port of its own. */
export interface DaemonProcess extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly token: string;
  readonly dataDir: string;
  readonly pid: number;
  readonly child: Child;
  readonly api: Api;
  /** Ids of every sandbox that `track` was told of */
  readonly sandboxIds: Set<string>;
  /** TERM, and waits for the end */
  stop(): Promise<number | null>;
  /** KILL, and waits for the end */
  kill(): Promise<void>;
}

/** The program that `startDaemon` runs. */
export function daemonArgv(repository = REPOSITORY): string[] {
  const built = path.join(repository, "packages/daemon/dist/main.js");
  if (!existsSync(built)) throw new Error(`${built} is missing: run \`npm run build\``);
  return [daemonNode(repository), built];
}

function readyLine(child: Child): Promise<ReadyLine> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`the daemon was not ready in time:\n${child.output()}`)),
      READY_TIMEOUT_MS,
    );
    let text = "";
    child.process.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      for (const line of text.split("\n").slice(0, -1)) {
        if (!line.startsWith('{"event":"ready"')) continue;
        clearTimeout(timer);
        resolve(JSON.parse(line) as ReadyLine);
        return;
      }
    });
    void child.exited.then((code) => {
      clearTimeout(timer);
      reject(new Error(`the daemon ended with ${code} before it was ready:\n${child.output()}`));
    });
  });
}

/** Starts the daemon and resolves when it says that it is ready. */
export async function startDaemon(options: DaemonOptions = {}): Promise<DaemonProcess> {
  const temporary = options.dataDir === undefined ? temporaryDirectory("data") : undefined;
  const dataDir = options.dataDir ?? temporary?.path ?? "";
  const port = options.port ?? (await freePort());
  const child = await startChild(
    [
      ...daemonArgv(options.repository),
      "--data-dir",
      dataDir,
      "--port",
      String(port),
      "--ready-json",
      ...(options.args ?? []),
    ],
    {
      cwd: options.repository ?? REPOSITORY,
      ...(options.uid === undefined ? {} : { uid: options.uid, gid: options.uid }),
    },
  );
  const ready = await readyLine(child).catch(async (error: unknown) => {
    await child.stop("SIGKILL");
    if (temporary !== undefined) await removeTraces(dataDir, temporary);
    throw error;
  });
  learnCgroups(dataDir);
  const token = ready.token ?? options.token ?? "";
  const api = new Api(ready.url.replace(/\/$/, ""), token);
  const sandboxIds = new Set<string>();
  return {
    url: api.url,
    port,
    token,
    dataDir,
    pid: ready.pid,
    child,
    api,
    sandboxIds,
    async stop() {
      await child.stop("SIGTERM");
      return child.exited;
    },
    kill: () => child.stop("SIGKILL"),
    async [Symbol.asyncDispose]() {
      api[Symbol.dispose]();
      await child.stop();
      if (temporary !== undefined) await removeTraces(dataDir, temporary);
    },
  };
}

/**
 * Ends what outlives a daemon by design (the warden and its sandboxes) and removes the directory.
 * Only for the end of a test: whether the daemon itself cleans up is asserted with `leftovers`.
 */
async function removeTraces(dataDir: string, temporary: Disposable): Promise<void> {
  await endProcessesOf(dataDir);
  const mounts = findLeftovers(dataDir, []).mounts.map((line) => line.split(" ")[4] ?? "");
  for (const target of mounts.toReversed()) {
    if (!target.startsWith(dataDir)) continue;
    await (
      await startChild(["umount", "-l", target])
    ).exited;
  }
  temporary[Symbol.dispose]();
}

/** KILLs, by pid, whatever belongs to the daemon of `dataDir`, and waits until it is gone. */
export async function endProcessesOf(dataDir: string): Promise<void> {
  await until(
    `processes of ${dataDir} end`,
    () => {
      const pids = processesOf(dataDir);
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          continue;
        }
      }
      return pids.length === 0;
    },
    { timeoutMs: GONE_TIMEOUT_MS },
  );
}

/** Destroys every sandbox, stops the daemon, and says what is still on the host. */
export async function stopAndLook(daemon: DaemonProcess): Promise<Leftovers> {
  const sandboxes = await daemon.api.list();
  for (const sandbox of sandboxes) daemon.sandboxIds.add(sandbox.id);
  await Promise.all(sandboxes.map((sandbox) => daemon.api.destroy(sandbox.id)));
  await daemon.stop();
  return settledLeftovers(daemon.dataDir, [...daemon.sandboxIds]);
}

/** What is left once it has stopped changing for the better, at most 20 s. */
export async function settledLeftovers(
  dataDir: string,
  ids: readonly string[],
): Promise<Leftovers> {
  const end = performance.now() + GONE_TIMEOUT_MS;
  for (;;) {
    const left = findLeftovers(dataDir, ids);
    const count = left.processes.length + left.mounts.length + left.cgroups.length;
    if (count + left.sockets.length === 0 || performance.now() > end) return left;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
