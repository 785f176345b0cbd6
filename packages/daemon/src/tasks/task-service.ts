import { BelljarError } from "@belljar/protocol";
import type { CreateTaskInput, Task, TaskEvent } from "@belljar/protocol";
import { KeyedLock, MIB, randomName } from "../kernel/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import { hashRequest } from "../sandbox/index.ts";
import type { Store, TaskEntry, WriteStep } from "../store/index.ts";
import type { TaskEvents, TaskSandboxes } from "./ports.ts";
import { TaskRecorder } from "./recorder.ts";
import type { ListTasksQuery, TaskService } from "./service.ts";
import { TaskRun } from "./task-run.ts";
import { viewTask, viewTaskEvent } from "./view.ts";

const PAGE_MAX = 500;
/** Ended tasks kept, with their events */
const RETAINED_MAX = 10_000;
/** Tasks made between two looks at retention */
const TRIM_EVERY_MAX = 64;
/** Bytes of commands and outputs in one page of tasks, which ends early where one more would be too many */
const PAGE_BYTES_MAX = 8 * MIB;
/** Tasks read from the store at a time */
const READ_MAX = 32;
/** Newest events that a resumed task's tail is read from */
const TAIL_EVENTS_MAX = 64;
const CURSOR = /^([0-9]{1,16})\.([a-z][a-z0-9]{19})$/;

export interface TaskServiceOptions {
  readonly store: Store;
  readonly sandboxes: TaskSandboxes;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where changes of a task's state are told */
  readonly events: TaskEvents;
  /** Ended tasks kept, default 10,000 */
  readonly retainedCountMax?: number;
}

/** Builds the service; nothing is read or started before `open()`. */
export function createTaskService(options: TaskServiceOptions): TaskService {
  return new StoredTasks(options);
}

class StoredTasks implements TaskService {
  readonly #options: TaskServiceOptions;
  /** Unfinished tasks by sandbox: one at a time each */
  readonly #runs = new Map<SandboxId, { id: string; run: TaskRun }>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #keys = new KeyedLock<string>();
  readonly #retainedCountMax: number;
  #madeCount = 0;
  #isClosing = false;

  constructor(options: TaskServiceOptions) {
    this.#options = options;
    this.#retainedCountMax = options.retainedCountMax ?? RETAINED_MAX;
  }

  async open(): Promise<void> {
    const { store } = this.#options;
    await store.tasks.removeOldest(this.#retainedCountMax);
    for (const task of await store.tasks.unfinished()) {
      const sequence = await store.taskEvents.newestSequence(task.id);
      const run = this.#run(task, sequence, {
        stdout: await store.taskEvents.tail(task.id, "stdout", TAIL_EVENTS_MAX),
        stderr: await store.taskEvents.tail(task.id, "stderr", TAIL_EVENTS_MAX),
      });
      void run.resume().then(() => this.#ended(task));
    }
  }

  async create(
    sandboxId: SandboxId,
    input: CreateTaskInput,
    caller: { owner: string; idempotencyKey?: string },
  ): Promise<Task> {
    if (this.#isClosing) throw new BelljarError("DRAINING", "the daemon is stopping");
    if (caller.idempotencyKey === undefined) return await this.#make(sandboxId, input);
    const request = {
      owner: caller.owner,
      key: caller.idempotencyKey,
      requestHash: hashRequest({ kind: "task", sandboxId, input }),
    };
    // One after the other: the second finds what the first has stored.
    const place = JSON.stringify([request.owner, request.key]);
    return await this.#keys.run(place, () => this.#makeOnce(sandboxId, input, request));
  }

  async get(id: string): Promise<Task> {
    return viewTask(await this.#require(id));
  }

  async list(query: ListTasksQuery): Promise<{ items: Task[]; nextCursor: string | null }> {
    const { page, hasMore } = await this.#page(query);
    const last = page.at(-1);
    return {
      items: page.map(viewTask),
      nextCursor:
        hasMore && last !== undefined
          ? Buffer.from(`${last.createdAtMs}.${last.id}`).toString("base64url")
          : null,
    };
  }

  async #page(query: ListTasksQuery): Promise<{ page: TaskEntry[]; hasMore: boolean }> {
    const { cursor, limit: countMax, ...filter } = query;
    const page: TaskEntry[] = [];
    let bytes = 0;
    let before: { createdAtMs: number; id: string } | undefined =
      cursor === undefined ? undefined : decodeCursor(cursor);
    for (;;) {
      const limit = Math.min(READ_MAX, countMax + 1 - page.length);
      const place = before === undefined ? {} : { before };
      const found = await this.#options.store.tasks.list({ ...filter, ...place, limit });
      for (const task of found) {
        bytes += sizeOf(task);
        const isFull = page.length === countMax || (page.length > 0 && bytes > PAGE_BYTES_MAX);
        if (isFull) return { page, hasMore: true };
        page.push(task);
      }
      if (found.length < limit) return { page, hasMore: false };
      before = page.at(-1);
    }
  }

  async cancel(id: string): Promise<Task> {
    const task = await this.#require(id);
    const running = this.#runs.get(task.sandboxId);
    if (running?.id === id) await running.run.cancel();
    return await this.get(id);
  }

  async *subscribe(
    id: string,
    sinceSequence: number,
    signal?: AbortSignal,
  ): AsyncGenerator<TaskEvent> {
    await this.#require(id);
    const isOver = () => signal?.aborted === true;
    let last = sinceSequence;
    while (!isOver()) {
      const ring = this.#bell(id, signal);
      try {
        const page = await this.#options.store.taskEvents.since(id, last, PAGE_MAX);
        for (const entry of page) {
          if (isOver()) return;
          last = entry.sequence;
          const event = viewTaskEvent(entry);
          yield entry.type === "done" ? { ...event, task: await this.get(id) } : event;
          if (entry.type === "done") return;
        }
        if (page.length > 0) continue;
        // Nothing new: for an ended task nothing will come.
        const { finishedAtMs } = await this.#require(id);
        if (
          finishedAtMs !== null &&
          (await this.#options.store.taskEvents.newestSequence(id)) <= last
        )
          return;
        await ring.rung;
      } finally {
        ring.remove();
      }
    }
  }

  /** The commands go on inside; the next daemon finds them. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    for (const { run } of this.#runs.values()) run.detach();
    for (const waiting of this.#waiting.values()) for (const ring of [...waiting]) ring();
  }

  async #makeOnce(
    sandboxId: SandboxId,
    input: CreateTaskInput,
    request: { owner: string; key: string; requestHash: string },
  ): Promise<Task> {
    const { store, clock } = this.#options;
    const known = await store.idempotency.find(request.owner, request.key);
    if (known === undefined) {
      return await this.#make(sandboxId, input, (id) =>
        store.idempotency.insertStep({ ...request, objectId: id, createdAtMs: clock.now() }),
      );
    }
    if (known.requestHash !== request.requestHash) {
      throw new BelljarError(
        "IDEMPOTENCY_CONFLICT",
        `the key ${request.key} was used for another request`,
        {
          idempotencyKey: request.key,
        },
      );
    }
    return await this.get(known.objectId);
  }

  async #make(
    sandboxId: SandboxId,
    input: CreateTaskInput,
    keyStep?: (id: string) => WriteStep,
  ): Promise<Task> {
    const { store, sandboxes, clock } = this.#options;
    const { state } = await sandboxes.get(sandboxId);
    if (state === "destroyed")
      throw new BelljarError("SANDBOX_NOT_FOUND", `there is no sandbox ${sandboxId}`, {
        id: sandboxId,
      });
    const other = this.#runs.get(sandboxId);
    if (other !== undefined) {
      throw new BelljarError("TASK_IN_PROGRESS", `task ${other.id} runs in sandbox ${sandboxId}`, {
        taskId: other.id,
      });
    }
    const task = newTask(sandboxId, input, clock.now());
    const run = this.#run(task, 1, { stdout: "", stderr: "" });
    try {
      const event = {
        taskId: task.id,
        sequence: 1,
        atMs: task.createdAtMs,
        type: "state" as const,
        state: task.state,
      };
      await store.write([
        store.tasks.insertStep(task),
        store.taskEvents.insertStep(event),
        ...(keyStep === undefined ? [] : [keyStep(task.id)]),
      ]);
    } catch (error) {
      this.#runs.delete(sandboxId);
      throw error;
    }
    this.#tell(task.sandboxId, task);
    this.#trimSometimes();
    void run.start().then(() => this.#ended(task));
    return viewTask(task);
  }

  /** Each task may hold megabytes: what is kept is bounded while the daemon runs, not at its next start. */
  #trimSometimes(): void {
    this.#madeCount += 1;
    if (this.#madeCount % Math.min(TRIM_EVERY_MAX, this.#retainedCountMax) !== 0) return;
    const { store, logger } = this.#options;
    store.tasks.removeOldest(this.#retainedCountMax).catch((error: unknown) => {
      logger.warn("tasks.trim", { error: describeError(error) });
    });
  }

  #run(task: TaskEntry, sequence: number, tails: { stdout: string; stderr: string }): TaskRun {
    const { store, clock, sandboxes, logger } = this.#options;
    const written = () => {
      // Whoever hears of the end may begin the next task at once.
      if (run.isOver) this.#forgetRun(task);
      this.#ring(task.id);
    };
    const recorder = new TaskRecorder({ store, clock, task, sequence, tails, written });
    const run = new TaskRun({ task, recorder, store, sandboxes, clock, logger });
    this.#runs.set(task.sandboxId, { id: task.id, run });
    return run;
  }

  #forgetRun(task: TaskEntry): void {
    if (this.#runs.get(task.sandboxId)?.id === task.id) this.#runs.delete(task.sandboxId);
  }

  async #ended(task: TaskEntry): Promise<void> {
    if (this.#isClosing) return;
    this.#forgetRun(task);
    this.#ring(task.id);
    try {
      const ended = await this.get(task.id);
      this.#options.logger.info("task.ended", {
        taskId: task.id,
        sandboxId: task.sandboxId,
        outcome: ended.state,
        durationMs: ended.durationMs,
      });
      this.#tell(task.sandboxId, ended);
    } catch (error) {
      this.#options.logger.error("task.ended", { taskId: task.id, error: describeError(error) });
    }
  }

  #tell(sandboxId: SandboxId, task: { id: string; state: string }): void {
    const { events, logger } = this.#options;
    events
      .record("task.state", sandboxId, { taskId: task.id, state: task.state })
      .catch((error: unknown) => {
        logger.warn("task.tell", { taskId: task.id, error: describeError(error) });
      });
  }

  async #require(id: string): Promise<TaskEntry> {
    const task = await this.#options.store.tasks.get(id);
    if (task === undefined)
      throw new BelljarError("TASK_NOT_FOUND", `there is no task ${id}`, { id });
    return task;
  }

  #ring(id: string): void {
    for (const ring of this.#waiting.get(id) ?? []) ring();
  }

  /** A bell hung up before the store is read, so that nothing written in between goes unheard. */
  #bell(id: string, signal: AbortSignal | undefined): { rung: Promise<void>; remove: () => void } {
    const { promise: rung, resolve } = Promise.withResolvers<void>();
    const waiting = this.#waiting.get(id) ?? new Set();
    this.#waiting.set(id, waiting.add(resolve));
    const aborted = () => resolve();
    signal?.addEventListener("abort", aborted, { once: true });
    if (this.#isClosing) resolve();
    const remove = () => {
      signal?.removeEventListener("abort", aborted);
      waiting.delete(resolve);
      if (waiting.size === 0) this.#waiting.delete(id);
    };
    return { rung, remove };
  }
}

function sizeOf({ command, stdoutTail, stderrTail }: TaskEntry): number {
  const argumentBytes = command.reduce((sum, argument) => sum + argument.length, 0);
  return argumentBytes + stdoutTail.length + stderrTail.length;
}

function newTask(sandboxId: SandboxId, input: CreateTaskInput, nowMs: number): TaskEntry {
  return {
    id: randomName(20),
    sandboxId,
    state: "queued",
    command: typeof input.command === "string" ? ["/bin/sh", "-c", input.command] : input.command,
    cwd: input.cwd ?? null,
    user: input.user ?? null,
    env: input.env ?? {},
    metadata: input.metadata,
    timeoutMs: input.timeoutMs,
    createdAtMs: nowMs,
    startedAtMs: null,
    finishedAtMs: null,
    exitCode: null,
    signal: null,
    failureReason: null,
    errorMessage: null,
    stdoutTail: "",
    stderrTail: "",
    stdoutBytes: 0,
    stderrBytes: 0,
    isCancelAsked: false,
  };
}

function decodeCursor(cursor: string): { createdAtMs: number; id: string } {
  const match = CURSOR.exec(Buffer.from(cursor, "base64url").toString("latin1"));
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new BelljarError("BAD_REQUEST", "the cursor comes from no list of this daemon", {
      cursor,
    });
  }
  return { createdAtMs: Number(match[1]), id: match[2] };
}
