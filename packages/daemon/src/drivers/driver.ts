import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { EffectiveLayer } from "@belljar/protocol";
import type { HostPath, SandboxId } from "../kernel/index.ts";

/** A read-only root file system, as files of the host. */
export interface ResolvedTemplate {
  readonly name: string;
  /** Directories of an overlay's lower layers, the topmost first */
  readonly layers: readonly HostPath[];
  /** Files or directories of the host shown at absolute paths of the sandbox */
  readonly binds: readonly { source: HostPath; target: string; readOnly: true }[];
}

export interface SandboxLimits {
  readonly memoryBytes: number;
  /** CPUs, fractions allowed */
  readonly cpuCount: number;
  /** Processes and threads */
  readonly processCount: number;
  /** Open files of one process */
  readonly openFilesMax: number;
  /** Bytes of `/tmp`; scratch places share one file system of `tmpBytes + shmBytes` */
  readonly tmpBytes: number;
  /** Bytes of `/dev/shm` */
  readonly shmBytes: number;
}

/** Everything a start needs; the volume of `id` must exist. */
export interface SandboxSpec {
  readonly id: SandboxId;
  /** Number of the range of 65,536 user ids that is this sandbox's alone while it lives */
  readonly slot: number;
  readonly template: ResolvedTemplate;
  readonly hostname: string;
  readonly limits: SandboxLimits;
  readonly level: "standard";
  /** What a layer that this machine lacks does: refuse with LAYER_UNSUPPORTED, or start and say so */
  readonly onUnsupported: "refuse" | "degrade";
}

export interface StartedSandbox {
  /** Each layer and limit: asked, in force, and why not */
  readonly effective: readonly EffectiveLayer[];
}

export interface VolumeOptions {
  readonly slot: number;
  /** Bytes at most; absent is no limit */
  readonly diskBytes?: number;
  /** Files at most; no pool can hold it so far, so it is reported as not in force */
  readonly inodes?: number;
}

export interface VolumeState {
  /** The limits of the disk: asked, in force, and why not */
  readonly effective: readonly EffectiveLayer[];
}

export interface VolumeUsage {
  readonly usedBytes: number;
  readonly limitBytes?: number;
}

/** A sandbox that has processes. */
export interface DriverSandbox {
  readonly id: SandboxId;
  readonly state: "running" | "frozen";
  readonly startedAtMs: number;
}

export interface ResourceUsage {
  readonly memoryBytes: number;
  readonly cpuTimeMs: number;
  readonly processCount: number;
  readonly oomKills: number;
}

/** The end of a sandbox, told once; every process is gone and its cgroups are removed. */
export interface SandboxExit {
  readonly id: SandboxId;
  /** Exit code of the guest; null when a signal ended it or nobody could know */
  readonly exitCode: number | null;
  /** Signal number that ended the guest */
  readonly signal: number | null;
  readonly usage: ResourceUsage;
  /** Whether the kernel killed something for want of memory */
  readonly isOutOfMemory: boolean;
}

/** What this machine can do, tried rather than guessed. */
export interface DriverCapabilities {
  readonly driver: string;
  readonly isPrivileged: boolean;
  readonly kernel: string;
  readonly cgroup: "v2" | "hybrid" | "v1" | "none";
  readonly pool: "btrfs" | "image" | "directory";
  /** Whether `dialPort` opens sockets inside the sandbox's network; the guest's pipe is there in any case */
  readonly canDial: boolean;
  /** Each layer of the level `standard`, with the reason where it cannot be had */
  readonly layers: readonly EffectiveLayer[];
}

/** Makes sandboxes. Every method throws BelljarError for what can happen, and leaves nothing half-made. */
export interface SandboxDriver extends AsyncDisposable {
  readonly name: string;
  capabilities(): Promise<DriverCapabilities>;
  /** Makes the volume, or completes and re-limits the one that is there. */
  ensureVolume(id: SandboxId, options: VolumeOptions): Promise<VolumeState>;
  /** Removes the volume with all that is in it; it is no error if there is none. */
  removeVolume(id: SandboxId): Promise<void>;
  volumeUsage(id: SandboxId): Promise<VolumeUsage>;
  listVolumes(): Promise<SandboxId[]>;
  /** Resolves when the guest can be dialled. */
  start(spec: SandboxSpec, signal?: AbortSignal): Promise<StartedSandbox>;
  freeze(id: SandboxId): Promise<void>;
  thaw(id: SandboxId): Promise<void>;
  /** Resolves when every process is gone and the cgroups are removed; a sandbox that does not run is no error. */
  kill(id: SandboxId): Promise<void>;
  list(): Promise<DriverSandbox[]>;
  usage(id: SandboxId): Promise<ResourceUsage>;
  /** A connection to the guest. GUEST_UNREACHABLE when there is none. */
  connectGuest(id: SandboxId, signal?: AbortSignal): Promise<Duplex>;
  /**
   * A TCP connection to `127.0.0.1:port`, else `[::1]:port`, inside. PREVIEW_UNREACHABLE when nothing listens;
   * LAYER_UNSUPPORTED when this machine cannot (use the guest's pipe).
   */
  dialPort(id: SandboxId, port: number, signal?: AbortSignal): Promise<Socket>;
  /** Calls `listener` at every end of a sandbox; the returned function stops it. */
  onExit(listener: (exit: SandboxExit) => void): () => void;
}
