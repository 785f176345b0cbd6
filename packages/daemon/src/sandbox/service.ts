import type { Duplex } from "node:stream";
import type {
  CreateSandboxInput,
  DaemonEvent,
  Preview,
  PutPreviewRequest,
  Sandbox,
  SandboxState,
  UpdateSandboxRequest,
  Usage,
  Visibility,
} from "@belljar/protocol";
import type { DriverCapabilities } from "../drivers/index.ts";
import type { GuestClient } from "../guest/index.ts";
import type { SandboxId } from "../kernel/index.ts";

/** Who asks, and under which key the same request is known again. */
export interface Caller {
  /** Id of the caller's token; idempotency keys are theirs alone */
  readonly owner: string;
  /** `Idempotency-Key` of the request; the same key and body answer with the same object */
  readonly idempotencyKey?: string;
}

/** One page's filters; `cursor` is opaque and comes from the page before. */
export interface ListSandboxesQuery {
  readonly limit: number;
  readonly cursor?: string;
  readonly state?: SandboxState;
  readonly name?: string;
  /** All must match */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** The client of a sandbox's guest, as `GuestClient` has it. */
export type SandboxGuest = Pick<GuestClient, keyof GuestClient>;

/** What the gateway needs to know of one preview, from memory. */
export interface PreviewEntry {
  readonly sandboxId: SandboxId;
  readonly port: number;
  readonly visibility: Visibility;
  readonly rewriteHost: boolean;
  /** A sandbox that is being frozen or stopped counts as `frozen` or `stopped` already */
  readonly state: SandboxState;
  /** Grows with every change of visibility, port or state */
  readonly revision: number;
}

/** Memory as admission sees it, in bytes. */
export interface MemoryFacts {
  readonly totalBytes: number;
  readonly availableBytes: number;
  /** Admitted to sandboxes that do not use it yet */
  readonly reservedBytes: number;
}

/** What one reconcile found and did. */
export interface ReconcileReport {
  readonly livingCount: number;
  /** Rows that said running or frozen without a process */
  readonly endedCount: number;
  /** Creates and starts that a crash had cut off */
  readonly interruptedCount: number;
  /** Living sandboxes without a row, killed */
  readonly orphanProcessCount: number;
  /** Volumes without a row, removed */
  readonly orphanVolumeCount: number;
  /** Destroys that a crash had cut off, finished */
  readonly destroyedCount: number;
}

/** What a command starts with where its request says nothing else. */
export interface CommandDefaults {
  readonly env: Record<string, string>;
  readonly user: string;
  readonly cwd: string;
}

/** Output of a sandbox's start command: `data` is raw bytes of the stream named. */
export interface StartCommandOutput {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}

/**
 * The lifecycle of every sandbox. Ids are parsed; every failure is a BelljarError. Each change runs
 * under its sandbox's lock, is stored before and after, and goes on when the one who asked goes away:
 * so no method that changes state takes an AbortSignal except to stop waiting.
 */
export interface SandboxService extends AsyncDisposable {
  /** Loads the store and makes it agree with the driver; then the reaper and reconciler run. Call before listening. */
  open(): Promise<ReconcileReport>;

  /**
   * Makes and starts a sandbox; resolves when it runs.
   * Throws SANDBOX_NAME_TAKEN, TEMPLATE_NOT_FOUND, LIMIT_UNSUPPORTED, LAYER_UNSUPPORTED, SANDBOX_LIMIT_REACHED,
   * MEMORY_EXHAUSTED, IDEMPOTENCY_CONFLICT before anything is written, SANDBOX_START_FAILED and the driver's
   * codes after cleaning up.
   */
  create(input: CreateSandboxInput, caller: Caller): Promise<Sandbox>;
  /** The sandbox, or SANDBOX_NOT_FOUND. */
  get(id: SandboxId): Promise<Sandbox>;
  /** Newest first. BAD_REQUEST for a cursor that is none of ours. Destroyed ones only where `state` asks for them. */
  list(query: ListSandboxesQuery): Promise<{ items: Sandbox[]; nextCursor: string | null }>;
  /** Changes name, metadata (replaced whole) and timeouts (merged). */
  update(id: SandboxId, changes: UpdateSandboxRequest): Promise<Sandbox>;
  /**
   * Ends the sandbox for good. With `keepWorkspace` its volume and row stay, in state `destroyed`;
   * destroying it again without removes them. Resolves when everything is gone.
   */
  destroy(id: SandboxId, options?: { keepWorkspace?: boolean }): Promise<void>;
  /** Keeps memory, takes the CPU away. From running only; SANDBOX_STATE otherwise; a no-op when frozen. */
  freeze(id: SandboxId): Promise<Sandbox>;
  /** TERM to everything, KILL after the grace; the workspace stays. A no-op when stopped; clears `error`. */
  stop(id: SandboxId): Promise<Sandbox>;
  /**
   * Makes it run. Any number of callers cause one start and get its one outcome.
   * `creating` → SANDBOX_STARTING, `error` → SANDBOX_FAILED, no memory → MEMORY_EXHAUSTED.
   * `signal` only stops the waiting.
   */
  wake(id: SandboxId, options: { reason: string; signal?: AbortSignal }): Promise<Sandbox>;
  /** No idle rest for `forMs` milliseconds from now; 0 ends an earlier promise. */
  keepAlive(id: SandboxId, forMs: number): Promise<Sandbox>;
  /** Resource use; zeros where nothing runs. */
  usage(id: SandboxId): Promise<Usage>;

  /** The guest's client; wakes the sandbox unless `wake` is false, then SANDBOX_STATE when it does not run. Counts as activity. */
  guest(id: SandboxId, options?: { wake?: boolean; signal?: AbortSignal }): Promise<SandboxGuest>;
  /** Opens a TCP connection to a port inside a running sandbox: by the driver, else by the guest's pipe. */
  dialPort(id: SandboxId, port: number, signal?: AbortSignal): Promise<Duplex>;
  /** In use until disposed, however quiet: a command or a terminal runs. SANDBOX_NOT_FOUND. */
  busy(id: SandboxId): Disposable;
  /** Runs `work`; the sandbox is in use, and not put to rest for idleness, until it ends. */
  withActivity<Result>(id: SandboxId, work: () => Promise<Result>): Promise<Result>;
  /** Environment (template's, then the sandbox's own), user and directory that its commands start with. */
  commandDefaults(id: SandboxId): Promise<CommandDefaults>;
  /** Something used the sandbox just now. */
  touch(id: SandboxId): void;
  /** A stream opened: activity. It keeps the sandbox awake by its traffic (`touch`), not by being open. */
  opened(id: SandboxId): void;
  /** A stream closed: activity. */
  closed(id: SandboxId): void;

  /** Opens `port` as a preview or changes it. BAD_REQUEST above the limit of previews. */
  putPreview(id: SandboxId, port: number, request: PutPreviewRequest): Promise<Preview>;
  /** PREVIEW_NOT_FOUND if it is none. */
  removePreview(id: SandboxId, port: number): Promise<void>;
  listPreviews(id: SandboxId): Promise<Preview[]>;
  /** Synchronous, from memory, for the gateway; undefined for unknown ids, ports, and what is being destroyed. */
  findPreview(id: SandboxId, port: number): PreviewEntry | undefined;
  /** Called with the id after each change of state, previews or visibility. Returns the way to stop it. */
  onChange(listener: (id: SandboxId) => void): () => void;

  /**
   * The last 64 KiB of the start command's output, and with `follow` what comes until it ends or `signal` fires.
   * Empty when it runs nowhere; SANDBOX_STATE when the sandbox does not run. Never wakes it.
   */
  startCommandLogs(
    id: SandboxId,
    options?: { follow?: boolean; signal?: AbortSignal },
  ): AsyncIterable<StartCommandOutput>;

  /** How many sandboxes are in each state. */
  counts(): Record<SandboxState, number>;
  memory(): MemoryFacts;
  capabilities(): DriverCapabilities;
  /** Makes store and driver agree once more. It also runs by itself. */
  reconcile(): Promise<ReconcileReport>;
}

/** The daemon's events: durable, numbered in the order they happened, the newest of them retained. */
export interface EventLog {
  /** Id of the newest event, 0 when there is none. */
  readonly newestId: number;
  /** Stores an event of another service and tells who follows. */
  record(
    type: DaemonEvent["type"],
    sandboxId: string | null,
    data: Record<string, unknown>,
  ): Promise<void>;
  /** Stored events with an id above `sinceId`, oldest first, at most `limit` (default 500). */
  since(sinceId: number, options?: { sandboxId?: string; limit?: number }): Promise<DaemonEvent[]>;
  /**
   * Stored events above `sinceId`, then new ones as they come, until `signal` fires. Never twice, never
   * one left out except what retention dropped; a slow reader costs nothing but its own lateness.
   */
  stream(
    sinceId: number,
    options?: { sandboxId?: string; signal?: AbortSignal },
  ): AsyncIterable<DaemonEvent>;
}
