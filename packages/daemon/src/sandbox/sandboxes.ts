import type { SandboxDriver } from "../drivers/index.ts";
import { GuestClient } from "../guest/index.ts";
import type { GuestConnect } from "../guest/index.ts";
import type { Clock } from "../kernel/index.ts";
import type { Logger } from "../log/index.ts";
import type { Store } from "../store/index.ts";
import { StoredEventLog } from "./event-log.ts";
import { hostCeilings } from "./limits.ts";
import type { HostCeilings } from "./limits.ts";
import { StoredSandboxService } from "./sandbox-service.ts";
import { systemMemory } from "./memory-reader.ts";
import type { MemoryReader, TemplateResolver } from "./ports.ts";
import type { EventLog, SandboxGuest, SandboxService } from "./service.ts";
import type { SandboxSettings } from "./settings.ts";

export interface SandboxesOptions {
  readonly store: Store;
  readonly driver: SandboxDriver;
  readonly templates: TemplateResolver;
  readonly settings: SandboxSettings;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The URL of a preview, as the API shows it */
  readonly previewUrl: (sandboxId: string, port: number) => string;
  /** Default: the machine's */
  readonly memory?: MemoryReader;
  /** Default: the machine's */
  readonly ceilings?: HostCeilings;
  /** Default: `GuestClient`; tests of races give their own */
  readonly guestOf?: (connect: GuestConnect) => SandboxGuest;
}

/** Builds the sandboxes' services; nothing is read or started before `sandboxes.open()`. */
export function createSandboxes(options: SandboxesOptions): {
  sandboxes: SandboxService;
  events: EventLog;
} {
  const events = new StoredEventLog({
    store: options.store,
    clock: options.clock,
    logger: options.logger,
    retainedCount: options.settings.eventsRetained,
  });
  const sandboxes = new StoredSandboxService({
    ...options,
    events,
    memory: options.memory ?? systemMemory,
    ceilings: options.ceilings ?? hostCeilings(),
    guestOf: options.guestOf ?? ((connect) => new GuestClient(connect)),
  });
  return { sandboxes, events };
}
