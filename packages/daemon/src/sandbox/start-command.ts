import { BelljarError } from "@belljar/protocol";
import type { Clock, SandboxId } from "../kernel/index.ts";
import { KIB } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { SandboxRecord } from "./registry.ts";
import type { CommandDefaults, SandboxGuest } from "./service.ts";

/** Tag of the start command among a sandbox's processes. */
export const START_COMMAND_TAG = "belljar.start";

const BACKOFF_MS_MIN = 1000;
const BACKOFF_MS_MAX = 30_000;
/** An exit sooner than this after the start is a quick one */
const QUICK_EXIT_MS = 10_000;
/** Quick exits in a row after which it is left alone until the next start of the sandbox */
const QUICK_EXITS_MAX = 5;
/** Bytes of output that an exit's event carries */
const TAIL_BYTES_MAX = 4 * KIB;

/** One end of a start command, as its event tells it. */
export interface StartCommandExit {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Why it could not even start */
  readonly error?: { readonly code: string; readonly message: string };
  /** The end of its output, both streams as they came */
  readonly outputTail: string;
  /** Milliseconds until the next attempt; null when it is left alone */
  readonly restartInMs: number | null;
}

interface Run {
  readonly abort: AbortController;
}

type Session = Awaited<ReturnType<SandboxGuest["exec"]>>;

interface Attempt {
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly error?: { code: string; message: string };
  readonly outputTail: string;
  /** The sandbox ended, not the command */
  readonly isLost: boolean;
}

export interface StartCommandsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly defaultsOf: (record: SandboxRecord) => Promise<CommandDefaults>;
  readonly onExit: (record: SandboxRecord, exit: StartCommandExit) => Promise<void>;
}

/**
 * Keeps each sandbox's start command running: started with the sandbox, started again with growing
 * pauses when it ends, and left alone after five quick ends. Its output is read all the time, because
 * a reader that does not read would hold the command back.
 */
export class StartCommands implements AsyncDisposable {
  readonly #options: StartCommandsOptions;
  readonly #runs = new Map<SandboxId, Run>();

  constructor(options: StartCommandsOptions) {
    this.#options = options;
  }

  /** Starts the command of a sandbox that has just started. */
  begin(record: SandboxRecord): void {
    this.#supervise(record, (run) => this.#exec(record, run));
  }

  /** Takes up the command of a sandbox that ran before this daemon did; starts it if it is not there. */
  resume(record: SandboxRecord): void {
    this.#supervise(record, async (run) => {
      try {
        return await record.guest.attach({ tag: START_COMMAND_TAG }, run.abort.signal);
      } catch (error) {
        if (BelljarError.is(error, "PROCESS_NOT_FOUND")) return await this.#exec(record, run);
        throw error;
      }
    });
  }

  /** Stops looking after it; the command itself ends with its sandbox. */
  end(id: SandboxId): void {
    this.#runs.get(id)?.abort.abort();
    this.#runs.delete(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const id of [...this.#runs.keys()]) this.end(id);
  }

  #supervise(record: SandboxRecord, open: (run: Run) => Promise<Session>): void {
    this.end(record.id);
    const run: Run = { abort: new AbortController() };
    this.#runs.set(record.id, run);
    this.#loop(record, run, open).catch((error: unknown) => {
      this.#options.logger.error("start-command.supervise", {
        sandboxId: record.id,
        error: describeError(error),
      });
    });
  }

  async #loop(
    record: SandboxRecord,
    run: Run,
    openFirst: (run: Run) => Promise<Session>,
  ): Promise<void> {
    const { clock } = this.#options;
    let quickExits = 0;
    let backoffMs = BACKOFF_MS_MIN;
    let open = openFirst;
    while (!run.abort.signal.aborted) {
      const startedMs = clock.monotonic();
      const attempt = await this.#attempt(run, open);
      if (run.abort.signal.aborted || attempt.isLost) return;
      const isQuick = clock.monotonic() - startedMs < QUICK_EXIT_MS;
      quickExits = isQuick ? quickExits + 1 : 0;
      if (!isQuick) backoffMs = BACKOFF_MS_MIN;
      const isGivenUp = quickExits >= QUICK_EXITS_MAX;
      const { isLost: _isLost, ...exit } = attempt;
      await this.#options.onExit(record, { ...exit, restartInMs: isGivenUp ? null : backoffMs });
      if (isGivenUp) return;
      await this.#pause(backoffMs, run.abort.signal);
      backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX);
      open = (next) => this.#exec(record, next);
    }
  }

  async #attempt(run: Run, open: (run: Run) => Promise<Session>): Promise<Attempt> {
    let session: Session;
    try {
      session = await open(run);
    } catch (error) {
      if (!BelljarError.is(error)) throw error;
      const isLost = error.code === "GUEST_UNREACHABLE" || error.code === "CANCELLED";
      return {
        exitCode: null,
        signal: null,
        error: { code: error.code, message: error.message },
        outputTail: "",
        isLost,
      };
    }
    const outputTail = await drain(session);
    const exit = await session.exited;
    return {
      exitCode: exit.exitCode,
      signal: exit.signal,
      outputTail,
      isLost: exit.reason === "lost",
    };
  }

  async #exec(record: SandboxRecord, run: Run): Promise<Session> {
    const { start } = record.row;
    if (start === null)
      throw new BelljarError("PROCESS_NOT_FOUND", "the sandbox has no start command");
    const defaults = await this.#options.defaultsOf(record);
    // The one before keeps its output until here; its tag must lead to the new one.
    await record.guest.forget({ tag: START_COMMAND_TAG }, run.abort.signal).catch(() => undefined);
    return await record.guest.exec(
      {
        command: start.command,
        env: { ...defaults.env, ...start.env },
        cwd: start.cwd ?? defaults.cwd,
        user: start.user ?? defaults.user,
        tag: START_COMMAND_TAG,
        keep: true,
      },
      run.abort.signal,
    );
  }

  async #pause(delayMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    using _timer = this.#options.clock.after(delayMs, resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
    await promise;
  }
}

/** Reads all of it and keeps the end. */
async function drain(session: Session): Promise<string> {
  let tail: Buffer = Buffer.alloc(0);
  for await (const { data } of session.output) {
    const part = data.length > TAIL_BYTES_MAX ? data.subarray(-TAIL_BYTES_MAX) : data;
    tail = Buffer.concat([tail, part]).subarray(-TAIL_BYTES_MAX);
  }
  return tail.toString("utf8");
}
