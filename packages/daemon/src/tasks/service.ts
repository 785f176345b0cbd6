import type { CreateTaskInput, Task, TaskEvent, TaskState } from "@belljar/protocol";
import type { SandboxId } from "../kernel/index.ts";

export interface ListTasksQuery {
  readonly limit: number;
  readonly cursor?: string;
  readonly sandboxId?: SandboxId;
  readonly state?: TaskState;
}

/** Durable headless commands. */
export interface TaskService extends AsyncDisposable {
  /** Attaches again to what still runs and tells the truth about the rest. Call after the sandboxes are reconciled. */
  open(): Promise<void>;
  /**
   * Writes the task and starts it; resolves as soon as the row is durable, in state `queued`.
   * SANDBOX_NOT_FOUND, TASK_IN_PROGRESS while another one of the sandbox runs, IDEMPOTENCY_CONFLICT.
   */
  create(
    sandboxId: SandboxId,
    input: CreateTaskInput,
    caller: { owner: string; idempotencyKey?: string },
  ): Promise<Task>;
  /** TASK_NOT_FOUND for an unknown id. Answers after the sandbox is gone, too. */
  get(id: string): Promise<Task>;
  /** Newest first. */
  list(query: ListTasksQuery): Promise<{ items: Task[]; nextCursor: string | null }>;
  /** TERM, KILL after 5 s. Resolves with the task once it has ended; a no-op for one that has. */
  cancel(id: string): Promise<Task>;
  /** Events above `sinceSequence`, stored ones first, until `done` or `signal`; none twice, none left out. */
  subscribe(id: string, sinceSequence: number, signal?: AbortSignal): AsyncIterable<TaskEvent>;
}
