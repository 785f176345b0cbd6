/**
 * The warden as the driver sees it: always there. Started when its socket does not answer, started
 * again when it dies, left alone when something else (systemd) keeps it.
 */
import { spawn } from "node:child_process";
import { mkdir, open } from "node:fs/promises";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../../kernel/index.ts";
import type { Logger } from "../../log/index.ts";
import { WardenConnection } from "./warden-client.ts";
import type { AnswerRecord, Op, PlanRecord } from "./wire.ts";
import { ANSWERS, textAt } from "./wire.ts";

const WIRE_VERSION = 1;
const START_MS_MAX = 10_000;
const RESTART_DELAY_MS = 250;
/** Consecutive starts that fail before the warden is left alone until somebody asks for it */
const RESTARTS_MAX = 5;

/** How to start a warden. */
export interface WardenLaunch {
  readonly binary: HostPath;
  readonly clientUid: number;
  readonly cgroupRoots: readonly HostPath[];
  readonly pool: HostPath;
  readonly poolImage?: HostPath;
  /** Whether quotas may be switched on in the pool */
  readonly withQuota: boolean;
}

export interface WardenOptions {
  readonly socket: HostPath;
  readonly runDir: HostPath;
  /** What the warden writes about its own failures */
  readonly logFile: HostPath;
  /** Absent when something else starts it */
  readonly launch?: WardenLaunch;
  readonly logger: Logger;
  onExit(records: AnswerRecord[]): void;
  /** A new connection: what ended while there was none was not told */
  onConnected(): void;
}

/** What HELLO says. */
export interface WardenFacts {
  readonly version: number;
  readonly uid: number;
  readonly gid: number;
  /** 0, or why a user namespace cannot be made */
  readonly userNamespaceErrno: number;
  readonly openFilesMax: number;
  readonly poolType: number;
  readonly pid: number;
  readonly kernel: string;
  readonly cgroupRoots: readonly string[];
}

export class Warden {
  readonly #options: WardenOptions;
  #opening: Promise<WardenConnection> | undefined;
  #connection: WardenConnection | undefined;
  #facts: WardenFacts | undefined;
  #failures = 0;
  #isDisposed = false;

  constructor(options: WardenOptions) {
    this.#options = options;
  }

  async facts(): Promise<WardenFacts> {
    await this.#ensure();
    if (this.#facts !== undefined) return this.#facts;
    throw new BelljarError("WARDEN_UNREACHABLE", "the warden went away");
  }

  /** An answer. A warden that dies over the request is asked again once it is back, unless asking twice would differ. */
  async request(op: Op, records: readonly PlanRecord[] = []): Promise<AnswerRecord[]> {
    const connection = await this.#ensure();
    try {
      return await connection.request(op, records);
    } catch (error) {
      if (!BelljarError.is(error, "WARDEN_UNREACHABLE") || op === "create") throw error;
      const again = await this.#ensure();
      return again.request(op, records);
    }
  }

  /** Ends the connection, and the warden too if it was ours to start. Sandboxes live on. */
  async close(): Promise<void> {
    this.#isDisposed = true;
    const connection = this.#connection ?? (await this.#opening?.catch(() => undefined));
    if (connection === undefined) return;
    if (this.#options.launch !== undefined && this.#facts !== undefined) {
      await this.#terminate(connection, this.#facts.pid);
    }
    connection.close();
  }

  #ensure(): Promise<WardenConnection> {
    if (this.#connection !== undefined && !this.#connection.isClosed) {
      return Promise.resolve(this.#connection);
    }
    if (this.#isDisposed) {
      return Promise.reject(new BelljarError("WARDEN_UNREACHABLE", "the driver is closed"));
    }
    this.#opening ??= this.#open().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  async #open(): Promise<WardenConnection> {
    const { launch } = this.#options;
    let connection = await this.#connect().catch((error: unknown) => {
      if (launch === undefined) throw error;
      return undefined;
    });
    if (connection !== undefined && launch !== undefined && !this.#isAsLaunched(launch)) {
      await this.#terminate(connection, this.#facts?.pid);
      connection = undefined;
    }
    if (connection === undefined) {
      if (launch === undefined) throw new BelljarError("WARDEN_UNREACHABLE", "no warden");
      await this.#spawn(launch);
      connection = await this.#connect();
    }
    this.#connection = connection;
    if (launch !== undefined) {
      await connection.request("poolMount", [["pool", launch.withQuota ? 1 : 0]]);
      this.#facts = readFacts(await connection.request("hello", [["events"]]));
    }
    this.#failures = 0;
    this.#options.onConnected();
    return connection;
  }

  async #connect(): Promise<WardenConnection> {
    const events = {
      onExit: (records: AnswerRecord[]) => this.#options.onExit(records),
      onClose: () => this.#closed(),
    };
    const connection = await WardenConnection.open(this.#options.socket, events);
    this.#facts = readFacts(await connection.request("hello", [["events"]]));
    if (this.#facts.version !== WIRE_VERSION && this.#options.launch === undefined) {
      throw new BelljarError("WARDEN_PROTOCOL", `the warden speaks version ${this.#facts.version}`);
    }
    return connection;
  }

  /** A warden left by an earlier daemon serves on, unless it is of another version or was given other places. */
  #isAsLaunched({ cgroupRoots }: WardenLaunch): boolean {
    const facts = this.#facts;
    if (facts?.version !== WIRE_VERSION) return false;
    return facts.cgroupRoots.join("\n") === cgroupRoots.join("\n");
  }

  async #terminate(connection: WardenConnection, pid: number | undefined): Promise<void> {
    if (pid === undefined || pid <= 1) return connection.close();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    connection.onceClosed(resolve);
    try {
      process.kill(pid, "SIGTERM");
    } catch {
      // It is gone already, or another user's: the connection tells which.
      connection.close();
    }
    await ended;
  }

  async #spawn(launch: WardenLaunch): Promise<void> {
    const { logFile, runDir, socket } = this.#options;
    await mkdir(runDir, { recursive: true, mode: 0o711 });
    const log = await open(logFile, "a", 0o600);
    const child = spawn(launch.binary, argumentsOf(launch, { runDir, socket }), {
      cwd: "/",
      env: {},
      detached: true,
      stdio: ["ignore", "pipe", log.fd],
    });
    await log.close();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const fail = (why: string, cause?: unknown) => {
      const message = `the warden did not start: ${why}; see ${logFile}`;
      reject(new BelljarError("WARDEN_UNREACHABLE", message, {}, { cause }));
    };
    const timer = setTimeout(() => fail(`silent for ${START_MS_MAX} ms`), START_MS_MAX);
    child.once("error", (cause) => fail(cause.message, cause));
    child.once("exit", (code, signal) => fail(`exit ${code ?? signal}`));
    child.stdout?.once("data", () => resolve());
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      child.stdout?.destroy();
      child.unref();
    }
    this.#options.logger.info("warden.start", { pid: child.pid });
  }

  /** Events must not wait for the next request, so the connection is made again at once. */
  #closed(): void {
    if (this.#isDisposed || this.#connection === undefined) return;
    this.#connection = undefined;
    this.#facts = undefined;
    this.#options.logger.warn("warden.lost", { failures: this.#failures });
    if (this.#failures >= RESTARTS_MAX) return;
    setTimeout(() => this.#again(), this.#failures * RESTART_DELAY_MS).unref();
    this.#failures += 1;
  }

  #again(): void {
    if (this.#isDisposed) return;
    this.#ensure().catch((error: unknown) => {
      this.#options.logger.error("warden.restart", { error });
    });
  }
}

function argumentsOf(
  launch: WardenLaunch,
  where: { runDir: HostPath; socket: HostPath },
): string[] {
  return [
    ...["--socket", where.socket, "--run-dir", where.runDir],
    ...["--client-uid", String(launch.clientUid), "--pool", launch.pool],
    ...launch.cgroupRoots.flatMap((root) => ["--cgroup-root", root]),
    ...(launch.poolImage === undefined ? [] : ["--pool-image", launch.poolImage]),
  ];
}

function readFacts(records: readonly AnswerRecord[]): WardenFacts {
  const facts = records.find(({ tag }) => tag === ANSWERS.facts)?.value;
  const kernel = records.find(({ tag }) => tag === ANSWERS.file)?.value;
  if (facts === undefined || facts.length < 56 || kernel === undefined) {
    throw new BelljarError("WARDEN_PROTOCOL", "the warden's greeting lacks its facts");
  }
  const at = (index: number) => Number(facts.readBigUInt64LE(index * 8));
  return {
    version: at(0),
    uid: at(1),
    gid: at(2),
    userNamespaceErrno: at(3),
    openFilesMax: at(4),
    poolType: at(5),
    pid: at(6),
    kernel: textAt(kernel),
    cgroupRoots: records
      .filter(({ tag }) => tag === ANSWERS.root)
      .map(({ value }) => textAt(value)),
  };
}
