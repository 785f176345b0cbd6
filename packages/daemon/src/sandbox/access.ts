import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import type { Usage } from "@belljar/protocol";
import type { SandboxDriver } from "../drivers/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import type { MemoryAdmission } from "./admission.ts";
import type { SandboxRecord, SandboxRegistry } from "./registry.ts";
import type { SandboxGuest, StartCommandOutput } from "./service.ts";
import { readStartCommand } from "./start-command-logs.ts";
import { visibleState } from "./state.ts";

export interface AccessOptions {
  readonly registry: SandboxRegistry;
  readonly driver: SandboxDriver;
  readonly admission: MemoryAdmission;
  readonly clock: Clock;
  readonly wake: (record: SandboxRecord, signal: AbortSignal | undefined) => Promise<void>;
}

/** Ways into a running sandbox, each of which is activity. */
export class SandboxAccess {
  readonly #options: AccessOptions;

  constructor(options: AccessOptions) {
    this.#options = options;
  }

  async guest(
    id: SandboxId,
    options: { wake?: boolean; signal?: AbortSignal },
  ): Promise<SandboxGuest> {
    const record = this.#options.registry.require(id);
    if (stateOf(record) !== "running") {
      if (options.wake === false) throw notRunning(record);
      await this.#options.wake(record, options.signal);
    }
    this.touch(id);
    return record.guest;
  }

  async dialPort(
    id: SandboxId,
    port: number,
    options: { canDial: boolean; signal: AbortSignal | undefined },
  ): Promise<Duplex> {
    const record = this.#options.registry.require(id);
    if (stateOf(record) !== "running") throw notRunning(record);
    return options.canDial
      ? await this.#options.driver.dialPort(id, port, options.signal)
      : await record.guest.dialPort(port, options.signal);
  }

  async *startCommandLogs(
    id: SandboxId,
    options: { follow?: boolean; signal?: AbortSignal },
  ): AsyncGenerator<StartCommandOutput> {
    const record = this.#options.registry.require(id);
    if (stateOf(record) !== "running") throw notRunning(record);
    yield* readStartCommand(record.guest, { ...options, clock: this.#options.clock });
  }

  busy(id: SandboxId): Disposable {
    const record = this.#options.registry.require(id);
    record.workCount += 1;
    this.touch(id);
    return {
      [Symbol.dispose]: () => {
        record.workCount -= 1;
        this.touch(id);
      },
    };
  }

  async withActivity<Result>(id: SandboxId, work: () => Promise<Result>): Promise<Result> {
    using _busy = this.busy(id);
    return await work();
  }

  touch(id: SandboxId): void {
    const record = this.#options.registry.find(id);
    if (record === undefined) return;
    record.lastActiveAtMs = this.#options.clock.now();
    record.isActivityUnsaved = true;
  }

  async usage(id: SandboxId): Promise<Usage> {
    const { registry, driver, admission } = this.#options;
    const { state } = registry.require(id).row;
    const isLiving = state === "running" || state === "frozen";
    const [now, disk] = await Promise.all([
      isLiving ? driver.usage(id) : undefined,
      // Not every pool can tell, and nothing else of the answer depends on it.
      driver.volumeUsage(id).catch(() => undefined),
    ]);
    if (now !== undefined) admission.observe(id, now.memoryBytes);
    return {
      memoryBytes: now?.memoryBytes ?? 0,
      cpuTimeMs: now?.cpuTimeMs ?? 0,
      processCount: now?.processCount ?? 0,
      oomKillCount: now?.oomKills ?? 0,
      diskUsedBytes: disk?.usedBytes ?? null,
    };
  }
}

function stateOf(record: SandboxRecord): string {
  return visibleState(record.row.state, record.row.pending);
}

function notRunning({ id, row }: SandboxRecord): BelljarError {
  const state = visibleState(row.state, row.pending);
  return new BelljarError("SANDBOX_STATE", `sandbox ${id} is ${state}, not running`, { id, state });
}
