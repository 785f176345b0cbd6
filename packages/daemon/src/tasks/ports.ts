import type { SandboxId } from "../kernel/index.ts";
import type { CommandDefaults, SandboxGuest } from "../sandbox/index.ts";

/** What tasks need of sandboxes; `SandboxService` is one. */
export interface TaskSandboxes {
  guest(id: SandboxId, options?: { wake?: boolean }): Promise<SandboxGuest>;
  get(id: SandboxId): Promise<{ state: string }>;
  withActivity<Result>(id: SandboxId, work: () => Promise<Result>): Promise<Result>;
  /** Environment, user and directory that commands of this sandbox start with. */
  commandDefaults(id: SandboxId): Promise<CommandDefaults>;
}

/** Where tasks tell of their states; `EventLog` is one. */
export interface TaskEvents {
  record(type: "task.state", sandboxId: string, data: Record<string, unknown>): Promise<void>;
}
