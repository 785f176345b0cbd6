import type { GuestConnect } from "../guest/index.ts";
import { KeyedLock } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { SandboxAccess } from "./access.ts";
import { MemoryAdmission } from "./admission.ts";
import type { StoredEventLog } from "./event-log.ts";
import { Lifecycle } from "./lifecycle.ts";
import type { HostCeilings } from "./limits.ts";
import type { MemoryReader } from "./ports.ts";
import { Previews } from "./previews.ts";
import { Reconciler } from "./reconcile.ts";
import { SandboxRegistry } from "./registry.ts";
import type { SandboxRecord } from "./registry.ts";
import type { SandboxesOptions } from "./sandboxes.ts";
import type { CommandDefaults, SandboxGuest } from "./service.ts";
import { StartCommands } from "./start-command.ts";
import { Upkeep } from "./upkeep.ts";
import { Waker } from "./wake.ts";

export type ServiceOptions = Omit<SandboxesOptions, "memory" | "ceilings" | "guestOf"> & {
  readonly events: StoredEventLog;
  readonly memory: MemoryReader;
  readonly ceilings: HostCeilings;
  readonly guestOf: (connect: GuestConnect) => SandboxGuest;
};

/** What the service is made of; all of it shares one registry and one lock a sandbox. */
export interface SandboxParts {
  readonly registry: SandboxRegistry;
  readonly lock: KeyedLock<SandboxId>;
  readonly admission: MemoryAdmission;
  readonly startCommands: StartCommands;
  readonly lifecycle: Lifecycle;
  readonly waker: Waker;
  readonly reconciler: Reconciler;
  readonly previews: Previews;
  readonly upkeep: Upkeep;
  readonly access: SandboxAccess;
}

/** Builds the parts; `wake` is how an access wakes what sleeps. */
export function buildParts(
  options: ServiceOptions,
  wake: (record: SandboxRecord, signal: AbortSignal | undefined) => Promise<void>,
): SandboxParts {
  const { store, driver, events, logger, clock, settings, templates, previewUrl } = options;
  const guestOf = (id: SandboxId) => options.guestOf((signal) => driver.connectGuest(id, signal));
  const registry = new SandboxRegistry({ store, events, logger, guestOf });
  const lock = new KeyedLock<SandboxId>();
  const admission = new MemoryAdmission({ memory: options.memory, clock, settings });
  const startCommands = new StartCommands({
    clock,
    logger,
    defaultsOf: (record) => commandDefaults(record, options),
    onExit: (record, exit) => events.record("start-command.exited", record.id, { ...exit }),
  });
  const shared = { registry, lock, admission, startCommands, driver, store, clock, logger };
  const { stopGraceMs } = settings;
  const lifecycle = new Lifecycle({ ...shared, templates, stopGraceMs });
  return {
    registry,
    lock,
    admission,
    startCommands,
    lifecycle,
    waker: new Waker({ ...shared, lifecycle }),
    reconciler: new Reconciler({ ...shared, lifecycle }),
    previews: new Previews({ ...shared, previewUrl }),
    upkeep: new Upkeep({ ...shared, lifecycle }),
    access: new SandboxAccess({ ...shared, wake }),
  };
}

/** What commands of a sandbox start with: the template's, and the sandbox's own environment over it. */
export async function commandDefaults(
  record: SandboxRecord,
  options: Pick<ServiceOptions, "templates">,
): Promise<CommandDefaults> {
  const template = await options.templates.resolve(record.row.template);
  return {
    env: { ...template.env, ...record.row.env },
    user: template.user,
    cwd: template.workdir,
  };
}
