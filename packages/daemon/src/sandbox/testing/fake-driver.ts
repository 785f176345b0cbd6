import { BelljarError } from "@belljar/protocol";
import type {
  DriverCapabilities,
  DriverSandbox,
  ResourceUsage,
  SandboxDriver,
  SandboxExit,
  SandboxSpec,
  StartedSandbox,
  VolumeOptions,
  VolumeState,
} from "../../drivers/index.ts";
import type { SandboxId } from "../../kernel/index.ts";

export type FaultPoint =
  | "ensureVolume"
  | "removeVolume"
  | "start"
  | "start-late"
  | "freeze"
  | "thaw"
  | "kill"
  | "list";

const NOTHING: ResourceUsage = { memoryBytes: 1024, cpuTimeMs: 0, processCount: 1, oomKills: 0 };

/**
 * A driver in memory, for faults and races: every operation takes a turn of the event loop, may be held
 * back, may be made to fail, and complains when it is used in a way that no caller may.
 */
export class FakeDriver implements SandboxDriver {
  readonly name = "fake";
  readonly living = new Map<SandboxId, DriverSandbox>();
  readonly volumes = new Set<SandboxId>();
  /** Ways in which a caller broke the contract */
  readonly violations: string[] = [];
  readonly slots = new Map<SandboxId, number>();
  startCount = 0;
  memoryBytes = NOTHING.memoryBytes;
  pool: DriverCapabilities["pool"] = "btrfs";
  /** Asked before each operation; true makes it fail */
  fault: (point: FaultPoint, id: SandboxId | undefined) => boolean = () => false;
  /** Awaited by each start, to hold it */
  holdStart: Promise<void> = Promise.resolve();
  readonly #starting = new Set<SandboxId>();
  readonly #listeners = new Set<(exit: SandboxExit) => void>();

  async capabilities(): Promise<DriverCapabilities> {
    return {
      driver: this.name,
      isPrivileged: true,
      kernel: "6.18",
      cgroup: "v2",
      pool: this.pool,
      canDial: true,
      layers: [],
    };
  }

  async ensureVolume(id: SandboxId, options: VolumeOptions): Promise<VolumeState> {
    await this.#step("ensureVolume", id);
    this.volumes.add(id);
    this.slots.set(id, options.slot);
    const asked = options.diskBytes !== undefined;
    return {
      effective: asked ? [{ layer: "disk-limit", asked, inForce: this.pool !== "directory" }] : [],
    };
  }

  async removeVolume(id: SandboxId): Promise<void> {
    await this.#step("removeVolume", id);
    if (this.living.has(id)) this.violations.push(`volume of ${id} removed while it lives`);
    this.volumes.delete(id);
    this.slots.delete(id);
  }

  async volumeUsage(): Promise<{ usedBytes: number }> {
    return { usedBytes: 4096 };
  }

  async listVolumes(): Promise<SandboxId[]> {
    await this.#step("list", undefined);
    return [...this.volumes];
  }

  async start(spec: SandboxSpec): Promise<StartedSandbox> {
    const { id } = spec;
    if (this.living.has(id)) this.violations.push(`${id} started while it lives`);
    if (this.#starting.has(id)) this.violations.push(`${id} started twice at once`);
    if (!this.volumes.has(id)) this.violations.push(`${id} started without a volume`);
    for (const other of this.living.keys()) {
      if (other !== id && this.slots.get(other) === spec.slot) {
        this.violations.push(`${id} and ${other} share slot ${spec.slot}`);
      }
    }
    this.startCount += 1;
    this.#starting.add(id);
    try {
      await this.holdStart;
      await this.#step("start", id);
      this.living.set(id, { id, state: "running", startedAtMs: 0 });
      return { effective: [{ layer: "pid-namespace", asked: true, inForce: true }] };
    } finally {
      this.#starting.delete(id);
    }
  }

  async freeze(id: SandboxId): Promise<void> {
    await this.#step("freeze", id);
    this.#require(id);
    this.living.set(id, { id, state: "frozen", startedAtMs: 0 });
  }

  async thaw(id: SandboxId): Promise<void> {
    await this.#step("thaw", id);
    this.#require(id);
    this.living.set(id, { id, state: "running", startedAtMs: 0 });
  }

  async kill(id: SandboxId): Promise<void> {
    await this.#step("kill", id);
    this.end(id);
  }

  async list(): Promise<DriverSandbox[]> {
    await this.#step("list", undefined);
    return [...this.living.values()];
  }

  async usage(id: SandboxId): Promise<ResourceUsage> {
    this.#require(id);
    return { ...NOTHING, memoryBytes: this.memoryBytes };
  }

  async connectGuest(): Promise<never> {
    throw new BelljarError("GUEST_UNREACHABLE", "the fake has no guest");
  }

  async dialPort(): Promise<never> {
    throw new BelljarError("PREVIEW_UNREACHABLE", "the fake has no ports");
  }

  onExit(listener: (exit: SandboxExit) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
  }

  /** Its processes end, and whoever listens is told. */
  end(id: SandboxId, how: Partial<SandboxExit> = {}): void {
    if (!this.living.delete(id)) return;
    const exit = { id, exitCode: null, signal: 9, usage: NOTHING, isOutOfMemory: false, ...how };
    for (const listener of [...this.#listeners]) listener(exit);
  }

  #require(id: SandboxId): void {
    if (this.living.has(id)) return;
    throw new BelljarError("WARDEN_REFUSED", `${id} does not run`, { id });
  }

  async #step(point: FaultPoint, id: SandboxId | undefined): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (this.fault(point, id))
      throw new BelljarError("WARDEN_REFUSED", `${point} was made to fail`);
  }
}
