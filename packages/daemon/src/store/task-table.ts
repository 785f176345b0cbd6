import { envSchema, taskStateSchema } from "@belljar/protocol";
import type { TaskState } from "@belljar/protocol";
import type { Kysely } from "kysely";
import { z } from "zod";
import { parseSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { readJson, readText } from "./json-column.ts";
import type { Schema, TaskColumns } from "./schema.ts";
import type { WriteStep } from "./store.ts";

const argvSchema = z.array(z.string()).min(1);
const metadataSchema = z.record(z.string(), z.string());

/** One task as it is kept. */
export interface TaskEntry {
  readonly id: string;
  readonly sandboxId: SandboxId;
  readonly state: TaskState;
  readonly command: readonly string[];
  readonly cwd: string | null;
  readonly user: string | null;
  readonly env: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
  readonly createdAtMs: number;
  readonly startedAtMs: number | null;
  readonly finishedAtMs: number | null;
  readonly exitCode: number | null;
  readonly signal: string | null;
  readonly failureReason: string | null;
  readonly errorMessage: string | null;
  readonly stdoutTail: string;
  readonly stderrTail: string;
  /** Bytes of each stream that are in its events, or counted past their limit */
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  readonly isCancelAsked: boolean;
}

type TaskPatch = Partial<Omit<TaskEntry, "id" | "sandboxId" | "createdAtMs">>;

export class TaskTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async get(id: string): Promise<TaskEntry | undefined> {
    const row = await this.#db
      .selectFrom("tasks")
      .selectAll()
      .where("id", "=", id)
      .executeTakeFirst();
    return row === undefined ? undefined : fromColumns(row);
  }

  /** Newest first, after the one that `before` names. */
  async list(query: {
    limit: number;
    sandboxId?: string;
    state?: TaskState;
    before?: { createdAtMs: number; id: string };
  }): Promise<TaskEntry[]> {
    let select = this.#db.selectFrom("tasks").selectAll();
    if (query.sandboxId !== undefined) select = select.where("sandbox_id", "=", query.sandboxId);
    if (query.state !== undefined) select = select.where("state", "=", query.state);
    const { before } = query;
    if (before !== undefined) {
      select = select.where((where) =>
        where.or([
          where("created_at_ms", "<", before.createdAtMs),
          where.and([where("created_at_ms", "=", before.createdAtMs), where("id", "<", before.id)]),
        ]),
      );
    }
    const rows = await select
      .orderBy("created_at_ms", "desc")
      .orderBy("id", "desc")
      .limit(query.limit)
      .execute();
    return rows.map(fromColumns);
  }

  /** Those that have not ended, oldest first. */
  async unfinished(): Promise<TaskEntry[]> {
    const rows = await this.#db
      .selectFrom("tasks")
      .selectAll()
      .where("state", "in", ["queued", "running"])
      .orderBy("created_at_ms")
      .execute();
    return rows.map(fromColumns);
  }

  insertStep(task: TaskEntry): WriteStep {
    return this.#db.insertInto("tasks").values({
      id: task.id,
      sandbox_id: task.sandboxId,
      created_at_ms: task.createdAtMs,
      ...patchColumns(task),
    });
  }

  patchStep(id: string, patch: TaskPatch): WriteStep {
    return this.#db.updateTable("tasks").set(patchColumns(patch)).where("id", "=", id);
  }

  /** Forgets the oldest ended tasks above `keepCount`, with their events. */
  async removeOldest(keepCount: number): Promise<void> {
    const kept = this.#db
      .selectFrom("tasks")
      .select("id")
      .orderBy("created_at_ms", "desc")
      .orderBy("id", "desc")
      .limit(keepCount);
    await this.#db
      .deleteFrom("tasks")
      .where("id", "not in", kept)
      .where("state", "not in", ["queued", "running"])
      .execute();
  }
}

function fromColumns(row: TaskColumns): TaskEntry {
  const sandboxId = parseSandboxId(row.sandbox_id);
  if (sandboxId === undefined) readText(z.never(), row.sandbox_id, "tasks.sandbox_id");
  return {
    id: row.id,
    sandboxId: sandboxId as SandboxId,
    state: readText(taskStateSchema, row.state, "tasks.state"),
    command: readJson(argvSchema, row.command, "tasks.command"),
    cwd: row.cwd,
    user: row.user_name,
    env: readJson(envSchema, row.env, "tasks.env"),
    metadata: readJson(metadataSchema, row.metadata, "tasks.metadata"),
    timeoutMs: row.timeout_ms,
    createdAtMs: row.created_at_ms,
    startedAtMs: row.started_at_ms,
    finishedAtMs: row.finished_at_ms,
    exitCode: row.exit_code,
    signal: row.signal,
    failureReason: row.failure_reason,
    errorMessage: row.error_message,
    stdoutTail: row.stdout_tail,
    stderrTail: row.stderr_tail,
    stdoutBytes: row.stdout_bytes,
    stderrBytes: row.stderr_bytes,
    isCancelAsked: row.is_cancel_asked !== 0,
  };
}

type PatchedColumns = Omit<TaskColumns, "id" | "sandbox_id" | "created_at_ms">;

/** The whole row for a whole task, and only what it names for a patch. */
function patchColumns(task: Omit<TaskEntry, "id" | "sandboxId" | "createdAtMs">): PatchedColumns;
function patchColumns(patch: TaskPatch): Partial<PatchedColumns>;
function patchColumns(patch: TaskPatch): Partial<PatchedColumns> {
  const columns = {
    state: patch.state,
    command: patch.command === undefined ? undefined : JSON.stringify(patch.command),
    cwd: patch.cwd,
    user_name: patch.user,
    env: patch.env === undefined ? undefined : JSON.stringify(patch.env),
    metadata: patch.metadata === undefined ? undefined : JSON.stringify(patch.metadata),
    timeout_ms: patch.timeoutMs,
    started_at_ms: patch.startedAtMs,
    finished_at_ms: patch.finishedAtMs,
    exit_code: patch.exitCode,
    signal: patch.signal,
    failure_reason: patch.failureReason,
    error_message: patch.errorMessage,
    stdout_tail: patch.stdoutTail,
    stderr_tail: patch.stderrTail,
    stdout_bytes: patch.stdoutBytes,
    stderr_bytes: patch.stderrBytes,
    is_cancel_asked: patch.isCancelAsked === undefined ? undefined : Number(patch.isCancelAsked),
  };
  const named = Object.entries(columns).filter(([, value]) => value !== undefined);
  return Object.fromEntries(named) as Partial<PatchedColumns>;
}
