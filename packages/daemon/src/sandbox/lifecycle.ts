import { BelljarError } from "@belljar/protocol";
import type { SandboxDriver } from "../drivers/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { WriteStep } from "../store/index.ts";
import type { MemoryAdmission } from "./admission.ts";
import type { TemplateForStart, TemplateResolver } from "./ports.ts";
import type { RowPatch, SandboxRecord, SandboxRegistry } from "./registry.ts";
import { mergeEffective, requireDiskLimit, specOf } from "./start-spec.ts";
import type { StartCommands } from "./start-command.ts";
import { requireTransition } from "./state.ts";

/** Milliseconds that a guest gets beyond the grace it was told, before its sandbox is killed anyway */
const SHUTDOWN_SLACK_MS = 2000;
/** Milliseconds after a start when what it costs is looked at */
const MEASURE_AFTER_MS = 500;

export interface LifecycleOptions {
  readonly registry: SandboxRegistry;
  readonly driver: SandboxDriver;
  readonly templates: TemplateResolver;
  readonly admission: MemoryAdmission;
  readonly startCommands: StartCommands;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly stopGraceMs: number;
}

/**
 * The transitions themselves. Each expects to run under its sandbox's lock, writes what it is about to do,
 * does it, and writes what came of it.
 */
export class Lifecycle {
  readonly #options: LifecycleOptions;

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /** First start of a record that `steps` store; on any failure nothing of it stays. */
  async create(
    record: SandboxRecord,
    template: TemplateForStart,
    options: { steps: readonly WriteStep[]; isDiskAsked: boolean },
  ): Promise<void> {
    const { registry, admission } = this.#options;
    try {
      await registry.write(options.steps, {
        type: "sandbox.created",
        sandboxId: record.id,
        data: { name: record.row.name },
      });
    } catch (error) {
      admission.release(record.id);
      registry.drop(record);
      throw error;
    }
    try {
      await this.#run(record, template, { reason: "create", isDiskAsked: options.isDiskAsked });
    } catch (error) {
      await this.#undoCreate(record, error);
      throw error;
    }
  }

  /** From stopped to running, memory already admitted. */
  async start(record: SandboxRecord, reason: string): Promise<void> {
    const { registry, admission, templates } = this.#options;
    try {
      requireTransition(record.id, record.row.state, "start");
      const template = await templates.resolve(record.row.template);
      await registry.begin(record, "start");
      await this.#run(record, template, { reason, isDiskAsked: false });
    } catch (error) {
      admission.release(record.id);
      if (record.row.pending === "start") await this.#notStarted(record, error);
      throw error;
    }
  }

  async thaw(record: SandboxRecord, reason: string): Promise<void> {
    const { registry, driver, clock } = this.#options;
    requireTransition(record.id, record.row.state, "thaw");
    await registry.begin(record, "thaw");
    try {
      await driver.thaw(record.id);
    } catch (error) {
      await registry.commitOrKeep(record, { pending: null });
      throw error;
    }
    this.#used(record);
    const patch: RowPatch = {
      state: "running",
      pending: null,
      frozenAtMs: null,
      lastActiveAtMs: clock.now(),
    };
    await registry.commitOrKeep(record, patch, stateEvent("running", reason));
  }

  async freeze(record: SandboxRecord, reason: string): Promise<void> {
    const { registry, driver, clock } = this.#options;
    requireTransition(record.id, record.row.state, "freeze");
    await registry.begin(record, "freeze");
    try {
      await driver.freeze(record.id);
    } catch (error) {
      await registry.commitOrKeep(record, { pending: null });
      throw error;
    }
    const patch: RowPatch = { state: "frozen", pending: null, frozenAtMs: clock.now() };
    await registry.commitOrKeep(record, patch, stateEvent("frozen", reason));
  }

  /**
   * TERM, then KILL. A frozen sandbox is thawed for it: what has slept for a day may hold unwritten data,
   * and the default never destroys work.
   */
  async stop(record: SandboxRecord, reason: string): Promise<void> {
    const { registry } = this.#options;
    requireTransition(record.id, record.row.state, "stop");
    const wasFrozen = record.row.state === "frozen";
    const hadProcesses = wasFrozen || record.row.state === "running";
    await registry.begin(record, "stop");
    this.#options.startCommands.end(record.id);
    const measuredBytes = hadProcesses ? await this.#measure(record.id) : undefined;
    if (hadProcesses) await this.#endGently(record, wasFrozen);
    await this.#killed(record, { reason, measuredBytes });
  }

  /** Finishes a stop: no process is left when the row says so. */
  async #killed(
    record: SandboxRecord,
    how: { reason: string; measuredBytes?: number | undefined },
  ): Promise<void> {
    const { registry, driver, admission } = this.#options;
    await driver.kill(record.id);
    admission.release(record.id);
    await registry.commitOrKeep(
      record,
      {
        state: "stopped",
        pending: null,
        error: null,
        frozenAtMs: null,
        ...(how.measuredBytes === undefined ? {} : { measuredMemoryBytes: how.measuredBytes }),
      },
      stateEvent("stopped", how.reason),
    );
  }

  /** Ends it for good, or down to its workspace. Everything is gone before the row is. */
  async destroy(record: SandboxRecord, keepWorkspace: boolean, reason: string): Promise<void> {
    const { registry, driver, admission, startCommands } = this.#options;
    const { state } = record.row;
    const hadProcesses = state === "running" || state === "frozen";
    await registry.begin(record, keepWorkspace ? "destroy-keep" : "destroy");
    startCommands.end(record.id);
    // Processes of a workspace that stays get the chance to write what they hold.
    if (keepWorkspace && hadProcesses) await this.#endGently(record, state === "frozen");
    await driver.kill(record.id);
    admission.release(record.id);
    if (keepWorkspace) {
      const patch: RowPatch = {
        state: "destroyed",
        pending: null,
        name: null,
        error: null,
        frozenAtMs: null,
      };
      await registry.commit(record, patch, {
        type: "sandbox.destroyed",
        data: { reason, workspaceKept: true },
      });
      return;
    }
    await driver.removeVolume(record.id);
    await registry.remove(record, {
      type: "sandbox.destroyed",
      data: { reason, workspaceKept: false },
    });
  }

  /** Its processes ended without our asking: it is stopped, and says why. */
  async ended(record: SandboxRecord, why: { code: string; message: string }): Promise<void> {
    const { registry, admission, startCommands } = this.#options;
    requireTransition(record.id, record.row.state, "end");
    startCommands.end(record.id);
    admission.release(record.id);
    const patch: RowPatch = { state: "stopped", pending: null, error: why, frozenAtMs: null };
    await registry.commitOrKeep(record, patch, {
      type: "sandbox.state",
      data: { state: "stopped", reason: why.code, message: why.message },
    });
  }

  /** A create that a crash cut off: nothing of it runs or is kept but the row that says so. */
  async interruptCreate(record: SandboxRecord): Promise<void> {
    const { registry, driver } = this.#options;
    await driver.kill(record.id);
    await driver.removeVolume(record.id);
    const error = {
      code: "INTERRUPTED",
      message: "the daemon ended while the sandbox was being created",
    };
    await registry.commit(
      record,
      { state: "error", pending: null, error },
      stateEvent("error", "interrupted"),
    );
  }

  /**
   * Finishes what began and was cut off, by a crash or by a failure of the driver: a start or stop ends
   * stopped, for nobody was told that it runs; a destroy ends destroyed. False where nothing hangs.
   */
  async settle(record: SandboxRecord): Promise<boolean> {
    const { registry, driver, admission } = this.#options;
    const { pending, error } = record.row;
    if (pending === "destroy" || pending === "destroy-keep") {
      await this.destroy(record, pending === "destroy-keep", "reconcile");
      return true;
    }
    if (pending !== "start" && pending !== "stop") return false;
    await driver.kill(record.id);
    admission.release(record.id);
    const interrupted = { code: "INTERRUPTED", message: "its start was cut off" };
    const patch: RowPatch = {
      state: "stopped",
      pending: null,
      frozenAtMs: null,
      error: pending === "start" ? interrupted : error,
    };
    await registry.commit(record, patch, stateEvent("stopped", "reconcile"));
    return true;
  }

  async #run(
    record: SandboxRecord,
    template: TemplateForStart,
    options: { reason: string; isDiskAsked: boolean },
  ): Promise<void> {
    const { registry, driver, clock, startCommands } = this.#options;
    const { row } = record;
    const volume = await driver.ensureVolume(row.id, {
      slot: row.slot,
      ...(row.limits.diskBytes === null ? {} : { diskBytes: row.limits.diskBytes }),
    });
    if (options.isDiskAsked) requireDiskLimit(record, volume.effective);
    const started = await driver.start(specOf(record, template));
    const nowMs = clock.now();
    this.#used(record);
    const wasCreating = row.state === "creating";
    try {
      await registry.commit(
        record,
        {
          state: "running",
          pending: null,
          error: null,
          startedAtMs: nowMs,
          frozenAtMs: null,
          lastActiveAtMs: nowMs,
          effective: mergeEffective(row.effective, [...volume.effective, ...started.effective]),
        },
        stateEvent("running", options.reason),
      );
    } catch (error) {
      // A start that cannot be stored must not go on: after a crash nobody would know of it.
      if (!wasCreating) await driver.kill(record.id);
      throw error;
    }
    this.#measureSoon(record);
    if (row.start !== null) startCommands.begin(record);
  }

  #used(record: SandboxRecord): void {
    record.lastActiveAtMs = this.#options.clock.now();
  }

  async #notStarted(record: SandboxRecord, error: unknown): Promise<void> {
    const why = BelljarError.is(error)
      ? { code: error.code, message: error.message }
      : { code: "INTERNAL", message: "the start failed for a reason that is in the daemon's log" };
    await this.#options.registry.commitOrKeep(
      record,
      { pending: null, error: why },
      {
        type: "sandbox.state",
        data: { state: record.row.state, reason: "start-failed", error: why },
      },
    );
  }

  /** Takes everything of a failed create away; what resists is destroyed by the reconciler. */
  async #undoCreate(record: SandboxRecord, cause: unknown): Promise<void> {
    const { registry, driver, admission, logger } = this.#options;
    admission.release(record.id);
    const data = {
      reason: "create-failed",
      code: BelljarError.is(cause) ? cause.code : "INTERNAL",
    };
    try {
      await driver.kill(record.id);
      await driver.removeVolume(record.id);
      await registry.remove(record, { type: "sandbox.destroyed", data });
    } catch (error) {
      logger.error("sandbox.create-cleanup", { sandboxId: record.id, error: describeError(error) });
      const why = { code: data.code, message: "the create failed and is being cleaned up" };
      await registry.commitOrKeep(record, {
        state: "error",
        pending: "destroy",
        error: why,
        name: null,
      });
    }
  }

  /** TERM and its grace. What fails here, a guest that is gone or hostile, the kill that follows makes good. */
  async #endGently(record: SandboxRecord, isFrozen: boolean): Promise<void> {
    try {
      if (isFrozen) await this.#options.driver.thaw(record.id);
      await this.#shutdown(record);
    } catch (error) {
      this.#options.logger.debug("sandbox.shutdown", {
        sandboxId: record.id,
        error: describeError(error),
      });
    }
  }

  /** Asks the guest to end everything and waits until it has; bounded, because the guest is the sandbox's own. */
  async #shutdown(record: SandboxRecord): Promise<void> {
    const { clock, driver, stopGraceMs } = this.#options;
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    using _timer = clock.after(stopGraceMs + SHUTDOWN_SLACK_MS, resolve);
    const stopListening = driver.onExit((exit) => {
      if (exit.id === record.id) resolve();
    });
    try {
      const begun = record.guest.shutdown(stopGraceMs);
      await Promise.race([begun.then(() => ended), ended]);
    } finally {
      stopListening();
    }
  }

  async #measure(id: SandboxId): Promise<number | undefined> {
    try {
      return (await this.#options.driver.usage(id)).memoryBytes;
    } catch {
      // Only admission's guess suffers.
      return undefined;
    }
  }

  #measureSoon(record: SandboxRecord): void {
    const { clock, admission } = this.#options;
    const isBare = record.row.start === null && record.row.measuredMemoryBytes === null;
    clock.after(MEASURE_AFTER_MS, () => {
      void this.#measure(record.id).then((bytes) => {
        if (bytes === undefined || record.row.state !== "running") return;
        if (isBare) admission.learn(record.id, bytes);
        else admission.observe(record.id, bytes);
      });
    });
  }
}

function stateEvent(
  state: string,
  reason: string,
): { type: "sandbox.state"; data: Record<string, unknown> } {
  return { type: "sandbox.state", data: { state, reason } };
}
