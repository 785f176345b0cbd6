import type { DriverSandbox, SandboxDriver } from "../drivers/index.ts";
import type { KeyedLock, SandboxId } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { RowPatch, SandboxRecord, SandboxRegistry } from "./registry.ts";
import type { ReconcileReport } from "./service.ts";
import type { StartCommands } from "./start-command.ts";

/** Sandboxes that are put right at the same time */
const PARALLEL_MAX = 16;

type Counts = { -readonly [Key in keyof ReconcileReport]: number };

export interface ReconcilePass {
  /** Nothing else has begun yet */
  readonly isBoot: boolean;
  /** Volumes that were in the pool before this store was: somebody's work, never removed */
  readonly foreignVolumes: ReadonlySet<string>;
}

export interface ReconcilerOptions {
  readonly registry: SandboxRegistry;
  readonly driver: SandboxDriver;
  readonly lifecycle: Lifecycle;
  readonly startCommands: StartCommands;
  readonly lock: KeyedLock<SandboxId>;
  readonly logger: Logger;
}

/**
 * Makes the rows, the driver's living sandboxes and the volumes agree. It takes one look at the driver
 * and then corrects each difference under that sandbox's lock, and only where nothing began since the
 * look: so it can run at any time beside everything else.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  #running: Promise<ReconcileReport> | undefined;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** One pass; a caller that comes while one runs gets that one's report. */
  run(options: ReconcilePass): Promise<ReconcileReport> {
    this.#running ??= this.#pass(options).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #pass(options: ReconcilePass): Promise<ReconcileReport> {
    const { registry, driver } = this.#options;
    const counts: Counts = {
      livingCount: 0,
      endedCount: 0,
      interruptedCount: 0,
      orphanProcessCount: 0,
      orphanVolumeCount: 0,
      destroyedCount: 0,
    };
    const before = new Map<SandboxRecord, number>();
    for (const record of registry.all()) before.set(record, record.transitionCount);
    const living = new Map<SandboxId, DriverSandbox>();
    for (const found of await driver.list()) living.set(found.id, found);
    counts.livingCount = living.size;
    await this.#each([...before], async ([record, transitionCount]) => {
      await this.#record(record, {
        transitionCount,
        found: living.get(record.id),
        isBoot: options.isBoot,
        counts,
      });
    });
    await this.#each([...living.keys()], (id) => this.#orphanProcess(id, counts));
    await this.#volumes(options.foreignVolumes, counts);
    return counts;
  }

  async #record(
    record: SandboxRecord,
    look: {
      transitionCount: number;
      found: DriverSandbox | undefined;
      isBoot: boolean;
      counts: Counts;
    },
  ): Promise<void> {
    if (!look.isBoot && isInAgreement(record, look.found)) return;
    const { registry, lock, lifecycle } = this.#options;
    await lock.run(record.id, async () => {
      const isStale =
        registry.find(record.id) !== record || record.transitionCount !== look.transitionCount;
      if (isStale) return;
      if (record.isRowUnsaved) await registry.saveUnsaved(record);
      const { state, pending } = record.row;
      if (state === "creating" && pending === null) {
        await lifecycle.interruptCreate(record);
        look.counts.interruptedCount += 1;
      } else if (await lifecycle.settle(record)) {
        if (pending === "start" || pending === "stop") look.counts.interruptedCount += 1;
        else look.counts.destroyedCount += 1;
      } else {
        await this.#settle(record, look);
      }
    });
  }

  async #settle(
    record: SandboxRecord,
    look: { found: DriverSandbox | undefined; isBoot: boolean; counts: Counts },
  ): Promise<void> {
    const { registry, driver, lifecycle, startCommands } = this.#options;
    const { state } = record.row;
    const isLivingState = state === "running" || state === "frozen";
    if (look.found === undefined) {
      if (!isLivingState) return;
      await lifecycle.ended(record, {
        code: "GUEST_ENDED",
        message: "its processes were found gone",
      });
      look.counts.endedCount += 1;
      return;
    }
    if (!isLivingState) {
      await driver.kill(record.id);
      look.counts.orphanProcessCount += 1;
      return;
    }
    if (look.found.state !== state || record.row.pending !== null) {
      const patch: RowPatch = { state: look.found.state, pending: null };
      await registry.commit(
        record,
        look.found.state === "running"
          ? { ...patch, frozenAtMs: null }
          : { ...patch, frozenAtMs: record.row.frozenAtMs ?? record.lastActiveAtMs },
        { type: "sandbox.state", data: { state: look.found.state, reason: "reconcile" } },
      );
    }
    if (look.isBoot && look.found.state === "running" && record.row.start !== null)
      startCommands.resume(record);
  }

  /** A row is always written before its sandbox starts: what lives without one is a leftover. */
  async #orphanProcess(id: SandboxId, counts: Counts): Promise<void> {
    const { registry, driver, lock, logger } = this.#options;
    if (registry.hasRow(id)) return;
    await lock.run(id, async () => {
      if (registry.hasRow(id)) return;
      await driver.kill(id);
      counts.orphanProcessCount += 1;
      logger.warn("reconcile.orphan-process", { sandboxId: id });
    });
  }

  async #volumes(foreign: ReadonlySet<string>, counts: Counts): Promise<void> {
    const { registry, driver, lock, logger } = this.#options;
    const orphans = (await driver.listVolumes()).filter(
      (id) => !registry.hasRow(id) && !foreign.has(id),
    );
    await this.#each(orphans, (id) =>
      lock.run(id, async () => {
        if (registry.hasRow(id)) return;
        await driver.removeVolume(id);
        counts.orphanVolumeCount += 1;
        logger.warn("reconcile.orphan-volume", { sandboxId: id });
      }),
    );
  }

  /** Runs `work` for each, a few at a time; one that fails is logged and tried again in the next pass. */
  async #each<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
    let next = 0;
    const worker = async () => {
      for (let item = items[next++]; item !== undefined; item = items[next++]) {
        try {
          await work(item);
        } catch (error) {
          this.#options.logger.error("reconcile.item", { error: describeError(error) });
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(PARALLEL_MAX, items.length) }, worker));
  }
}

/** Whether there is nothing to do for it, told without its lock: most are, at every pass. */
function isInAgreement(record: SandboxRecord, found: DriverSandbox | undefined): boolean {
  if (record.isRowUnsaved || record.row.pending !== null) return false;
  const { state } = record.row;
  if (state === "creating") return false;
  return state === "running" || state === "frozen" ? found?.state === state : found === undefined;
}
