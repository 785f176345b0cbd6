/**
 * Tasks: one headless command in a sandbox, durable. The row is written before the command starts, the
 * command outlives the daemon, its events are stored as they come and served after the sandbox is gone.
 */
export type { TaskEvents, TaskSandboxes } from "./ports.ts";
export type { ListTasksQuery, TaskService } from "./service.ts";
export type { TaskServiceOptions } from "./task-service.ts";
export { createTaskService } from "./task-service.ts";
