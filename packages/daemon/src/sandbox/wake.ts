import { BelljarError } from "@belljar/protocol";
import type { KeyedLock, SandboxId } from "../kernel/index.ts";
import type { MemoryAdmission } from "./admission.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { notFound } from "./registry.ts";
import type { SandboxRecord, SandboxRegistry } from "./registry.ts";
import { visibleState } from "./state.ts";

/** Wakes sandboxes: one start for any number of callers, who all get its true outcome. */
export class Waker {
  readonly #registry: SandboxRegistry;
  readonly #lifecycle: Lifecycle;
  readonly #admission: MemoryAdmission;
  readonly #lock: KeyedLock<SandboxId>;

  constructor(options: {
    registry: SandboxRegistry;
    lifecycle: Lifecycle;
    admission: MemoryAdmission;
    lock: KeyedLock<SandboxId>;
  }) {
    this.#registry = options.registry;
    this.#lifecycle = options.lifecycle;
    this.#admission = options.admission;
    this.#lock = options.lock;
  }

  /** Resolves when it runs. `signal` ends only this caller's waiting. */
  async wake(
    record: SandboxRecord,
    options: { reason: string; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const state = visibleState(record.row.state, record.row.pending);
    if (state === "running") return;
    refuseUnwakeable(record);
    if (record.waking === undefined) {
      const waking = this.#lock
        .run(record.id, () => this.#wakeLocked(record, options.reason))
        .finally(() => {
          record.waking = undefined;
        });
      // Everyone who waits gets the failure; nobody may be left when it comes.
      waking.catch(() => undefined);
      record.waking = waking;
    }
    await abortable(record.waking, options.signal);
  }

  async #wakeLocked(record: SandboxRecord, reason: string): Promise<void> {
    if (this.#registry.find(record.id) !== record) throw notFound(record.id);
    await this.#lifecycle.settle(record);
    refuseUnwakeable(record);
    const { row } = record;
    if (row.state === "running") return;
    if (row.state === "frozen") {
      // Its memory is resident: there is nothing to admit.
      await this.#lifecycle.thaw(record, reason);
      return;
    }
    this.#admission.admit(record.id, {
      limitBytes: row.limits.memoryBytes,
      measuredBytes: row.measuredMemoryBytes,
      isBare: row.start === null && row.measuredMemoryBytes === null,
    });
    await this.#lifecycle.start(record, reason);
  }
}

/** States that no visit starts anything from. */
function refuseUnwakeable(record: SandboxRecord): void {
  const { id, row } = record;
  switch (visibleState(row.state, row.pending)) {
    case "creating":
      throw new BelljarError("SANDBOX_STARTING", `sandbox ${id} is being created`, { id });
    case "error":
      throw new BelljarError(
        "SANDBOX_FAILED",
        `sandbox ${id} failed: ${row.error?.message ?? "unknown"}`,
        {
          id,
          error: row.error,
        },
      );
    case "destroyed":
      throw notFound(id);
    case "archived":
      throw new BelljarError("SANDBOX_STATE", `sandbox ${id} is archived`, {
        id,
        state: "archived",
      });
    case "running":
    case "frozen":
    case "stopped":
  }
}

async function abortable(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) {
    await work;
    return;
  }
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = () =>
    reject(new BelljarError("CANCELLED", "stopped waiting for the sandbox to wake"));
  if (signal.aborted) onAbort();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
