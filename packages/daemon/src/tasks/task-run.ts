import { BelljarError } from "@belljar/protocol";
import type { ExecExit, ExecSession } from "../guest/index.ts";
import type { Clock } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { Store, TaskEntry } from "../store/index.ts";
import type { TaskSandboxes } from "./ports.ts";
import type { OutputStream, TaskRecorder } from "./recorder.ts";

/** Milliseconds between TERM and KILL */
const GRACE_MS = 5000;

export interface TaskRunOptions {
  readonly task: TaskEntry;
  readonly recorder: TaskRecorder;
  readonly store: Store;
  readonly sandboxes: TaskSandboxes;
  readonly clock: Clock;
  readonly logger: Logger;
}

interface Outcome {
  readonly state: TaskEntry["state"];
  readonly failureReason: string | null;
  readonly errorMessage?: string | null;
  readonly exitCode?: number | null;
  readonly signal?: string | null;
}

/** How far it is known to have come */
type Phase = "not-started" | "started-before" | "started";

/** Tag of a task's command among its sandbox's processes. */
export function taskTag(id: string): string {
  return `task.${id}`;
}

/** One unfinished task in memory, from its start or from where an earlier daemon left it, to its end. */
export class TaskRun {
  readonly #options: TaskRunOptions;
  readonly #finished = Promise.withResolvers<void>();
  #session: ExecSession | undefined;
  #isCancelAsked: boolean;
  #isDetached = false;
  #isOver = false;
  #phase: Phase = "not-started";

  constructor(options: TaskRunOptions) {
    this.#options = options;
    this.#isCancelAsked = options.task.isCancelAsked;
  }

  /** Resolves when the task has its outcome, or this daemon lets go of it. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  /** Whether its outcome is being written, or is: the sandbox is free for another task. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Starts the command. Never rejects. */
  async start(): Promise<void> {
    await this.#guarded(async () => {
      const { sandboxes, task } = this.#options;
      await sandboxes.withActivity(task.sandboxId, async () => {
        const session = await this.#exec();
        await this.#follow(session);
      });
    });
  }

  /** Takes up the command that an earlier daemon started, if it is still known inside. Never rejects. */
  async resume(): Promise<void> {
    this.#phase = "started-before";
    await this.#guarded(async () => {
      const { sandboxes, task } = this.#options;
      const { state } = await sandboxes.get(task.sandboxId);
      if (state !== "running" && state !== "frozen")
        throw gone(`sandbox ${task.sandboxId} is ${state}`);
      await sandboxes.withActivity(task.sandboxId, async () => {
        const guest = await sandboxes.guest(task.sandboxId);
        const session = await guest.attach({ tag: taskTag(task.id) });
        if (task.state === "queued") await this.#markRunning();
        await this.#follow(session);
      });
    });
  }

  /** TERM, then KILL. What has not started yet does not start. */
  async cancel(): Promise<void> {
    const { store, task, sandboxes } = this.#options;
    this.#isCancelAsked = true;
    await store.write([store.tasks.patchStep(task.id, { isCancelAsked: true })]);
    const { state } = await sandboxes.get(task.sandboxId).catch(() => ({ state: "destroyed" }));
    // What is frozen hears no signal.
    if (state === "frozen") await sandboxes.guest(task.sandboxId);
    this.#terminate();
    await this.finished;
  }

  /** Lets go without ending anything: the command is kept inside for the next daemon. */
  detach(): void {
    this.#isDetached = true;
    this.#session?.close();
    this.#finished.resolve();
  }

  async #exec(): Promise<ExecSession> {
    const { task, sandboxes } = this.#options;
    const guest = await sandboxes.guest(task.sandboxId);
    const defaults = await sandboxes.commandDefaults(task.sandboxId);
    if (this.#isCancelAsked) throw cancelledEarly();
    // Running is written first: a daemon that dies in between finds it, or finds it missing, inside.
    await this.#markRunning();
    return await guest.exec({
      command: task.command,
      env: { ...defaults.env, ...task.env },
      cwd: task.cwd ?? defaults.cwd,
      user: task.user ?? defaults.user,
      timeoutMs: task.timeoutMs,
      graceMs: GRACE_MS,
      tag: taskTag(task.id),
      keep: true,
    });
  }

  async #markRunning(): Promise<void> {
    const { recorder, clock } = this.#options;
    recorder.event("state", { state: "running" });
    await recorder.flush({ state: "running", startedAtMs: clock.now() });
  }

  async #follow(session: ExecSession): Promise<void> {
    const { recorder } = this.#options;
    this.#session = session;
    this.#phase = "started";
    if (this.#isDetached) session.close();
    if (this.#isCancelAsked) this.#terminate();
    const positions = { ...session.replayedFrom };
    for await (const { stream, data } of session.output) {
      const fresh = this.#unrecorded(stream, data, positions);
      if (fresh.length > 0) recorder.output(stream, fresh);
      if (recorder.isFull) await recorder.flush();
    }
    recorder.endOutput();
    const exit = await session.exited;
    if (this.#isDetached) return;
    await this.#finish(this.#outcomeOf(exit));
    await this.#forget();
  }

  /** Of replayed output what is not recorded yet; a gap is recorded as such. */
  #unrecorded(
    stream: OutputStream,
    data: Uint8Array,
    positions: Record<OutputStream, number>,
  ): Uint8Array {
    const { recorder } = this.#options;
    const start = positions[stream];
    positions[stream] = start + data.length;
    if (start > recorder.position(stream)) recorder.skip(stream, start);
    return data.subarray(Math.min(recorder.position(stream) - start, data.length));
  }

  #terminate(): void {
    const session = this.#session;
    if (session === undefined) return;
    session.signal("SIGTERM");
    const timer = this.#options.clock.after(GRACE_MS, () => session.signal("SIGKILL"));
    void session.exited.then(() => timer[Symbol.dispose]());
  }

  #outcomeOf(exit: ExecExit): Outcome {
    const { exitCode, signal } = exit;
    if (exit.reason === "lost") {
      return {
        state: "interrupted",
        failureReason: "sandbox-ended",
        errorMessage: "the sandbox ended while the command ran; its outcome is not known",
      };
    }
    if (this.#isCancelAsked)
      return { state: "cancelled", failureReason: "cancelled", exitCode, signal };
    if (exit.reason === "timeout")
      return { state: "failed", failureReason: "timeout", exitCode, signal };
    if (exitCode === 0) return { state: "succeeded", failureReason: null, exitCode, signal };
    return {
      state: "failed",
      failureReason: signal === null ? "exit-code" : "signal",
      exitCode,
      signal,
    };
  }

  async #finish(outcome: Outcome): Promise<void> {
    const { recorder, clock } = this.#options;
    recorder.event("state", { state: outcome.state });
    recorder.event("done", { state: outcome.state });
    this.#isOver = true;
    await recorder.flush({
      errorMessage: null,
      exitCode: null,
      signal: null,
      ...outcome,
      finishedAtMs: clock.now(),
      stdoutTail: recorder.tail("stdout"),
      stderrTail: recorder.tail("stderr"),
    });
  }

  /** Frees what the guest keeps of it; of no consequence if the sandbox is gone. */
  async #forget(): Promise<void> {
    const { sandboxes, task } = this.#options;
    try {
      const guest = await sandboxes.guest(task.sandboxId, { wake: false });
      await guest.forget({ tag: taskTag(task.id) });
    } catch (error) {
      this.#options.logger.debug("task.forget", { taskId: task.id, error: describeError(error) });
    }
  }

  async #guarded(work: () => Promise<void>): Promise<void> {
    const { logger, task } = this.#options;
    try {
      await work();
    } catch (error) {
      if (this.#isDetached) return;
      if (!BelljarError.is(error))
        logger.error("task.run", { taskId: task.id, error: describeError(error) });
      this.#session?.signal("SIGKILL");
      await this.#finish(outcomeOfError(error, this.#phase)).catch((failure: unknown) => {
        // It stays unfinished in the store; the next daemon tells what became of it.
        logger.error("task.unsaved", { taskId: task.id, error: describeError(failure) });
      });
    } finally {
      this.#finished.resolve();
    }
  }
}

const CANCELLED_EARLY = "the task was cancelled before its command started";

function cancelledEarly(): BelljarError {
  return new BelljarError("CANCELLED", CANCELLED_EARLY);
}

function gone(message: string): BelljarError {
  return new BelljarError("SANDBOX_STATE", message);
}

/** Why there is no exit to tell of. */
function outcomeOfError(error: unknown, phase: Phase): Outcome {
  const message = BelljarError.is(error)
    ? error.message
    : "an internal error; see the daemon's log";
  if (BelljarError.is(error, "CANCELLED") && error.message === CANCELLED_EARLY) {
    return { state: "cancelled", failureReason: "cancelled", errorMessage: message };
  }
  if (phase === "not-started")
    return { state: "failed", failureReason: "start-failed", errorMessage: message };
  const errorMessage = `${message}; the outcome is not known`;
  if (phase === "started") return { state: "interrupted", failureReason: "internal", errorMessage };
  const isEnded =
    BelljarError.is(error, "SANDBOX_STATE") || BelljarError.is(error, "SANDBOX_NOT_FOUND");
  return {
    state: "interrupted",
    failureReason: isEnded ? "sandbox-ended" : "daemon-restarted",
    errorMessage,
  };
}
