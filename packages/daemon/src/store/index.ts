/**
 * What survives: one database file below the data directory, one repository object a table. Repositories
 * take and give plain values (times in milliseconds), never rows of one database's dialect.
 * Failures: DATA_DIR_IN_USE, DATA_DIR_UNUSABLE when opening; STORAGE_FAILED for a full or failing disk.
 */
export type { DataDirLock } from "./data-dir-lock.ts";
export { lockDataDir } from "./data-dir-lock.ts";
export type { Store, WriteStep } from "./store.ts";
export { openStore } from "./store.ts";
export type { EventEntry, EventTable } from "./event-table.ts";
export type { GrantEntry, GrantKind, GrantTable } from "./grant-table.ts";
export type { IdempotencyEntry, IdempotencyTable } from "./idempotency-table.ts";
export type { PreviewRow, PreviewTable } from "./preview-table.ts";
export type { PendingTransition, SandboxRow, SandboxTable } from "./sandbox-table.ts";
export type { SettingTable } from "./setting-table.ts";
export type { TaskEntry, TaskTable } from "./task-table.ts";
export type { TaskEventEntry, TaskEventTable } from "./task-event-table.ts";
export type { TokenEntry, TokenTable } from "./token-table.ts";
