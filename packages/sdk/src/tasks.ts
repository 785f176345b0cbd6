import type { CreateTaskRequest, Task, TaskEvent } from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import type { FollowOptions } from "./event-stream.ts";
import { followEvents } from "./event-stream.ts";
import type { ListOptions } from "./pages.ts";
import { allPages } from "./pages.ts";
import type { CallOptions, CreateOptions, Transport } from "./transport.ts";

/**
 * A durable command in a sandbox.
 *
 * @example
 * const task = await sandbox.tasks.create({ command: "make test" });
 * for await (const event of task.events()) if (event.text !== undefined) console.log(event.text);
 * const { state, exitCode } = await task.wait();
 */
export class TaskHandle {
  readonly id: string;
  readonly #transport: Transport;
  #info: Task;

  /** @internal */
  constructor(transport: Transport, info: Task) {
    this.#transport = transport;
    this.#info = info;
    this.id = info.id;
  }

  /** The task as last seen. */
  get info(): Task {
    return this.#info;
  }

  /** Asks the daemon for the task as it is. @throws TASK_NOT_FOUND. */
  async refresh(options: CallOptions = {}): Promise<Task> {
    this.#info = await this.#transport.json<Task>({ path: this.#path(), signal: options.signal });
    return this.#info;
  }

  /** Events from the start or after `since`, without holes over broken connections; the last one is `done`. */
  async *events(options: FollowOptions = {}): AsyncGenerator<TaskEvent> {
    const spec = {
      path: `${this.#path()}/events`,
      idOf: (event: TaskEvent) => event.sequence,
      isLast: (event: TaskEvent) => event.type === "done",
    };
    for await (const event of followEvents<TaskEvent>(this.#transport, spec, options)) {
      if (event.task !== undefined) this.#info = event.task;
      yield event;
    }
  }

  /** Waits for the end, whatever it is. @throws TASK_NOT_FOUND. */
  async wait(options: CallOptions = {}): Promise<Task> {
    if (isFinished(this.#info)) return this.#info;
    for await (const event of this.events(options)) {
      if (event.type === "done") return event.task ?? this.refresh(options);
    }
    throw new BelljarError(
      "DAEMON_UNREACHABLE",
      `the events of task ${this.id} ended without \`done\``,
    );
  }

  /** TERM, and KILL 5 s later. @throws TASK_NOT_FOUND. */
  async cancel(options: CallOptions = {}): Promise<Task> {
    const spec = {
      method: "POST" as const,
      path: `${this.#path()}/cancel`,
      signal: options.signal,
    };
    this.#info = await this.#transport.json<Task>(spec);
    return this.#info;
  }

  #path(): string {
    return `/v1/tasks/${encodeURIComponent(this.id)}`;
  }
}

function isFinished(task: Task): boolean {
  return task.state !== "queued" && task.state !== "running";
}

/** The tasks of one sandbox, made by `sandbox.tasks`. */
export class SandboxTasks {
  readonly #transport: Transport;
  readonly #path: string;

  /** @internal */
  constructor(transport: Transport, sandboxPath: string) {
    this.#transport = transport;
    this.#path = `${sandboxPath}/tasks`;
  }

  /** Starts a task; one runs at a time. @throws TASK_IN_PROGRESS. */
  async create(request: CreateTaskRequest, options: CreateOptions = {}): Promise<TaskHandle> {
    const spec = { method: "POST" as const, path: this.#path, json: request, ...options };
    return new TaskHandle(this.#transport, await this.#transport.json<Task>(spec));
  }

  /** The sandbox's tasks, newest first. */
  list(options: ListOptions = {}): AsyncGenerator<Task> {
    return allPages<Task>(this.#transport, { path: this.#path, query: {} }, options);
  }
}

/** Tasks of any sandbox, also of those that are gone, made by `belljar.tasks`. */
export class Tasks {
  readonly #transport: Transport;

  /** @internal */
  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** A task by its id. @throws TASK_NOT_FOUND. */
  async get(id: string, options: CallOptions = {}): Promise<TaskHandle> {
    const path = `/v1/tasks/${encodeURIComponent(id)}`;
    return new TaskHandle(
      this.#transport,
      await this.#transport.json<Task>({ path, signal: options.signal }),
    );
  }
}
