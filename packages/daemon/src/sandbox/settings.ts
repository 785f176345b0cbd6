import type { Timeouts } from "@belljar/protocol";

/** What the operator decides about sandboxes. */
export interface SandboxSettings {
  /** Sandboxes in all, stopped ones and kept workspaces included */
  readonly countMax: number;
  /** Limits of a sandbox that names none; each is lowered to what this machine has */
  readonly defaults: {
    readonly memoryBytes: number;
    readonly cpuCount: number;
    readonly processCountMax: number;
    readonly openFilesMax: number;
    /** In force where the storage pool can limit */
    readonly diskBytes: number | null;
  };
  readonly timeouts: Timeouts;
  /** Percent of the machine's memory that no start may touch */
  readonly memoryFloorPercent: number;
  /** Bytes that a starting sandbox is expected to need until something is measured */
  readonly memoryExpectedBytes: number;
  /** Milliseconds that admitted memory stays reserved for a sandbox that does not use it */
  readonly memoryReservationMs: number;
  /** Milliseconds between TERM and KILL at a stop */
  readonly stopGraceMs: number;
  /** Milliseconds between two looks at who is idle */
  readonly reaperIntervalMs: number;
  /** Milliseconds between two reconciles */
  readonly reconcileIntervalMs: number;
  /** Events kept for resuming streams */
  readonly eventsRetained: number;
}
