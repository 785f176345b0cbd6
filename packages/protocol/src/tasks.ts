import { z } from "zod";
import {
  instant,
  objectIdSchema,
  pageOf,
  sandboxIdSchema,
  sandboxPathSchema,
  userSchema,
  envSchema,
} from "./common.ts";
import { commandSchema } from "./exec.ts";

/**
 * States of a task. `interrupted`: the daemon or the sandbox ended while it ran, and its outcome
 * is not known.
 */
export const taskStateSchema = z.enum([
  "queued",
  "running",
  "succeeded",
  "failed",
  "cancelled",
  "interrupted",
]);
export type TaskState = z.infer<typeof taskStateSchema>;

/** `POST /v1/sandboxes/{id}/tasks`: one headless command, durable, one at a time in a sandbox. */
export const createTaskRequestSchema = z
  .strictObject({
    command: commandSchema,
    cwd: sandboxPathSchema.optional(),
    user: userSchema.optional(),
    env: envSchema.optional(),
    /** Milliseconds until the task is ended, default 10 minutes */
    timeoutMs: z
      .number()
      .int()
      .min(1000)
      .max(24 * 3600 * 1000)
      .default(600_000),
    metadata: z.record(z.string().min(1).max(128), z.string().max(1024)).default({}),
  })
  .meta({ id: "CreateTaskRequest" });
export type CreateTaskRequest = z.input<typeof createTaskRequestSchema>;
export type CreateTaskInput = z.output<typeof createTaskRequestSchema>;

/** A task; its result is enough to show the outcome without replaying the events. */
export const taskSchema = z
  .object({
    id: objectIdSchema,
    sandboxId: sandboxIdSchema,
    state: taskStateSchema,
    command: z.array(z.string()),
    metadata: z.record(z.string(), z.string()),
    createdAt: instant,
    startedAt: instant.nullable(),
    finishedAt: instant.nullable(),
    timeoutMs: z.number(),
    exitCode: z.number().int().nullable(),
    signal: z.string().nullable(),
    /** Why it did not succeed: `exit-code`, `signal`, `timeout`, `cancelled`, `sandbox-ended`, `daemon-restarted`, `start-failed` */
    failureReason: z.string().nullable(),
    errorMessage: z.string().nullable(),
    /** The end of each stream, at most 64 KiB */
    stdoutTail: z.string(),
    stderrTail: z.string(),
    durationMs: z.number().nullable(),
    eventsUrl: z.string(),
  })
  .meta({ id: "Task" });
export type Task = z.infer<typeof taskSchema>;
/** A page of `GET …/tasks`. */
export const taskPageSchema = pageOf(taskSchema).meta({ id: "TaskPage" });
export type TaskPage = z.infer<typeof taskPageSchema>;

/** One event of a task's stream; `sequence` starts at 1 and has no holes. The last one is `done`. */
export const taskEventSchema = z
  .object({
    sequence: z.number().int(),
    at: instant,
    type: z.enum(["state", "stdout", "stderr", "truncated", "done"]),
    state: taskStateSchema.optional(),
    text: z.string().optional(),
    task: taskSchema.optional(),
  })
  .meta({ id: "TaskEvent" });
export type TaskEvent = z.infer<typeof taskEventSchema>;
