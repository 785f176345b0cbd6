import type { SandboxDriver, SandboxExit } from "../drivers/index.ts";
import type { Clock, KeyedLock, SandboxId } from "../kernel/index.ts";
import { describeError, operation } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { Store } from "../store/index.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { dueRest } from "./reaper.ts";
import type { SandboxRecord, SandboxRegistry } from "./registry.ts";
import { describeExit } from "./start-spec.ts";

/** Setting that lists the volumes which were in the pool before the store was */
const FOREIGN_VOLUMES_SETTING = "volumes.foreign";
/** Milliseconds that an idempotency key is known, and that an ended grant is kept */
const KEPT_MS = 24 * 3600 * 1000;

export interface UpkeepOptions {
  readonly registry: SandboxRegistry;
  readonly store: Store;
  readonly driver: SandboxDriver;
  readonly lifecycle: Lifecycle;
  readonly lock: KeyedLock<SandboxId>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What happens to sandboxes without anybody asking. */
export class Upkeep {
  readonly #options: UpkeepOptions;

  constructor(options: UpkeepOptions) {
    this.#options = options;
  }

  /** The driver told of an end: if nothing of ours caused it, the sandbox is stopped and says why. */
  async exited(exit: SandboxExit): Promise<void> {
    const { registry, driver, lifecycle, lock, logger } = this.#options;
    const record = registry.find(exit.id);
    if (record === undefined) return;
    await lock.run(exit.id, async () => {
      if (registry.find(exit.id) !== record) return;
      // The end that a stop or destroy of ours brought about before it failed: that one is finished.
      if (await lifecycle.settle(record)) return;
      const { state } = record.row;
      if (state !== "running" && state !== "frozen") return;
      // The news may be of the life before this one.
      const living = await driver.list();
      if (living.some((other) => other.id === exit.id)) return;
      const why = describeExit(exit);
      await lifecycle.ended(record, why);
      logger.warn("sandbox.ended", { sandboxId: exit.id, ...why });
    });
  }

  /** Puts a sandbox to rest if its time has come, which may have changed while its lock was another's. */
  async rest(record: SandboxRecord): Promise<void> {
    const { registry, lifecycle, lock, logger, clock } = this.#options;
    if (lock.isHeld(record.id)) return;
    await lock.run(record.id, async () => {
      if (registry.find(record.id) !== record) return;
      const due = dueRest(record, clock.now());
      if (due === undefined) return;
      const fields = { sandboxId: record.id, action: due.action, reason: due.reason };
      await operation({ logger, clock, event: "sandbox.rest", fields }, async () => {
        if (due.action === "freeze") await lifecycle.freeze(record, due.reason);
        else if (due.action === "stop") await lifecycle.stop(record, due.reason);
        else await lifecycle.destroy(record, false, due.reason);
      });
    });
  }

  /** Writes when they were last used. */
  async saveActivity(records: readonly SandboxRecord[]): Promise<void> {
    const { store } = this.#options;
    const steps = records.map((record) => {
      record.isActivityUnsaved = false;
      return store.sandboxes.patchStep(record.id, { lastActiveAtMs: record.lastActiveAtMs });
    });
    await store.write(steps);
  }

  /** Forgets idempotency keys and preview grants whose time is over. */
  async forgetOld(): Promise<void> {
    const { store, clock, logger } = this.#options;
    const beforeMs = clock.now() - KEPT_MS;
    try {
      await store.idempotency.removeOlder(beforeMs);
      await store.grants.removeExpired(beforeMs);
    } catch (error) {
      logger.warn("store.forget-old", { error: describeError(error) });
    }
  }

  /** A new store over an old pool: what lies there was somebody's work and is left alone for ever. */
  async readForeignVolumes(): Promise<ReadonlySet<string>> {
    const { store, driver, registry, logger } = this.#options;
    const known = await store.settings.get(FOREIGN_VOLUMES_SETTING);
    if (known !== undefined) return new Set(known === "" ? [] : known.split(","));
    const found = (await driver.listVolumes()).filter((id) => !registry.hasRow(id));
    await store.settings.set(FOREIGN_VOLUMES_SETTING, found.join(","));
    if (found.length > 0) logger.warn("sandbox.foreign-volumes", { volumeCount: found.length });
    return new Set(found);
  }
}
