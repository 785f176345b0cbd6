import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import type {
  CreateSandboxInput,
  Preview,
  PutPreviewRequest,
  Sandbox,
  SandboxState,
  UpdateSandboxRequest,
  Usage,
} from "@belljar/protocol";
import type { DriverCapabilities } from "../drivers/index.ts";
import { invariant } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { describeError, operation } from "../log/index.ts";
import { mergeTimeouts } from "./create-plan.ts";
import { Creator } from "./create.ts";
import { listSandboxes } from "./list.ts";
import { Reaper } from "./reaper.ts";
import { buildParts, commandDefaults } from "./parts.ts";
import type { SandboxParts, ServiceOptions } from "./parts.ts";
import { notFound } from "./registry.ts";
import type { SandboxRecord } from "./registry.ts";
import type {
  Caller,
  CommandDefaults,
  ListSandboxesQuery,
  MemoryFacts,
  PreviewEntry,
  ReconcileReport,
  SandboxGuest,
  SandboxService,
  StartCommandOutput,
} from "./service.ts";
import { viewSandbox } from "./view.ts";

/** Milliseconds between two looks for what may be forgotten */
const FORGET_INTERVAL_MS = 3600 * 1000;
/** Milliseconds that closing waits for transitions under way */
const DRAIN_MS_MAX = 15_000;

/** The sandboxes of one daemon: memory and store agree at every moment, driver and store at every reconcile. */
export class StoredSandboxService implements SandboxService {
  readonly #options: ServiceOptions;
  readonly #parts: SandboxParts;
  readonly #cleanup = new AsyncDisposableStack();
  readonly #inFlight = new Set<Promise<unknown>>();
  #capabilities: DriverCapabilities | undefined;
  #creator: Creator | undefined;
  #foreignVolumes: ReadonlySet<string> = new Set();
  #isClosing = false;

  constructor(options: ServiceOptions) {
    this.#options = options;
    this.#parts = buildParts(options, (record, signal) =>
      this.#wake(record, { reason: "request", signal }),
    );
  }

  async open(): Promise<ReconcileReport> {
    const { driver, clock, settings, events } = this.#options;
    this.#capabilities = await driver.capabilities();
    await events.open();
    await this.#parts.registry.load();
    this.#foreignVolumes = await this.#parts.upkeep.readForeignVolumes();
    this.#creator = new Creator({
      ...this.#options,
      ...this.#parts,
      capabilities: this.#capabilities,
    });
    this.#cleanup.use(this.#parts.startCommands);
    this.#cleanup.defer(
      driver.onExit((exit) =>
        this.#background("sandbox.ended", () => this.#parts.upkeep.exited(exit)),
      ),
    );
    const report = await this.#parts.reconciler.run({
      isBoot: true,
      foreignVolumes: this.#foreignVolumes,
    });
    this.#cleanup.use(
      new Reaper({
        clock,
        intervalMs: settings.reaperIntervalMs,
        records: () => this.#parts.registry.all(),
        rest: (record) => this.#background("sandbox.rest", () => this.#parts.upkeep.rest(record)),
        saveActivity: (records) =>
          this.#background("sandbox.activity", () => this.#parts.upkeep.saveActivity(records)),
      }),
    );
    await this.#parts.upkeep.forgetOld();
    this.#cleanup.use(
      clock.every(FORGET_INTERVAL_MS, () =>
        this.#background("store.forget", () => this.#parts.upkeep.forgetOld()),
      ),
    );
    this.#cleanup.use(
      clock.every(settings.reconcileIntervalMs, () =>
        this.#background("sandbox.reconcile", () => this.reconcile()),
      ),
    );
    return report;
  }

  create(input: CreateSandboxInput, caller: Caller): Promise<Sandbox> {
    return this.#operation("sandbox.create", { template: input.template }, async (note) => {
      invariant(this.#creator !== undefined, "sandboxes are opened before they are used");
      const id = await this.#creator.create(input, caller);
      note({ sandboxId: id });
      return this.#view(this.#parts.registry.require(id));
    });
  }

  async get(id: SandboxId): Promise<Sandbox> {
    return this.#view(this.#parts.registry.require(id));
  }

  async list(query: ListSandboxesQuery): Promise<{ items: Sandbox[]; nextCursor: string | null }> {
    const { records, nextCursor } = listSandboxes(this.#parts.registry.all(), query);
    return { items: records.map((record) => this.#view(record)), nextCursor };
  }

  async update(id: SandboxId, changes: UpdateSandboxRequest): Promise<Sandbox> {
    return await this.#locked(id, async (record) => {
      const { name, metadata, timeouts } = changes;
      if (
        typeof name === "string" &&
        name !== record.row.name &&
        this.#parts.registry.isNameTaken(name)
      ) {
        throw new BelljarError("SANDBOX_NAME_TAKEN", `another sandbox is called ${name}`, { name });
      }
      const patch = {
        ...(name === undefined ? {} : { name }),
        ...(metadata === undefined ? {} : { metadata }),
        ...(timeouts === undefined
          ? {}
          : { timeouts: mergeTimeouts(record.row.timeouts, timeouts) }),
      };
      if (Object.keys(patch).length === 0) return;
      await this.#parts.registry.commit(record, patch, {
        type: "sandbox.updated",
        data: { changed: Object.keys(patch) },
      });
    });
  }

  destroy(id: SandboxId, options: { keepWorkspace?: boolean } = {}): Promise<void> {
    const keepWorkspace = options.keepWorkspace === true;
    return this.#operation("sandbox.destroy", { sandboxId: id, keepWorkspace }, async () => {
      const record = this.#parts.registry.require(id);
      await this.#parts.lock.run(id, async () => {
        if (this.#parts.registry.find(id) !== record) throw notFound(id);
        if (keepWorkspace && record.row.state === "destroyed") return;
        await this.#parts.lifecycle.destroy(record, keepWorkspace, "request");
      });
    });
  }

  freeze(id: SandboxId): Promise<Sandbox> {
    return this.#operation("sandbox.freeze", { sandboxId: id }, () =>
      this.#locked(id, async (record) => {
        if (record.row.state !== "frozen") await this.#parts.lifecycle.freeze(record, "request");
      }),
    );
  }

  stop(id: SandboxId): Promise<Sandbox> {
    return this.#operation("sandbox.stop", { sandboxId: id }, () =>
      this.#locked(id, async (record) => {
        if (record.row.state !== "stopped") await this.#parts.lifecycle.stop(record, "request");
      }),
    );
  }

  async wake(id: SandboxId, options: { reason: string; signal?: AbortSignal }): Promise<Sandbox> {
    const record = this.#parts.registry.require(id);
    await this.#wake(record, options);
    this.touch(id);
    return this.#view(record);
  }

  async keepAlive(id: SandboxId, forMs: number): Promise<Sandbox> {
    return await this.#locked(id, async (record) => {
      const keepAliveUntilMs = forMs === 0 ? null : this.#options.clock.now() + forMs;
      await this.#parts.registry.commit(record, { keepAliveUntilMs });
      this.touch(id);
    });
  }

  usage(id: SandboxId): Promise<Usage> {
    return this.#parts.access.usage(id);
  }

  guest(
    id: SandboxId,
    options: { wake?: boolean; signal?: AbortSignal } = {},
  ): Promise<SandboxGuest> {
    return this.#parts.access.guest(id, options);
  }

  dialPort(id: SandboxId, port: number, signal?: AbortSignal): Promise<Duplex> {
    return this.#parts.access.dialPort(id, port, { canDial: this.capabilities().canDial, signal });
  }

  async commandDefaults(id: SandboxId): Promise<CommandDefaults> {
    return await commandDefaults(this.#parts.registry.require(id), this.#options);
  }

  busy(id: SandboxId): Disposable {
    return this.#parts.access.busy(id);
  }

  withActivity<Result>(id: SandboxId, work: () => Promise<Result>): Promise<Result> {
    return this.#parts.access.withActivity(id, work);
  }

  touch(id: SandboxId): void {
    this.#parts.access.touch(id);
  }

  opened(id: SandboxId): void {
    this.touch(id);
  }

  closed(id: SandboxId): void {
    this.touch(id);
  }

  putPreview(id: SandboxId, port: number, request: PutPreviewRequest): Promise<Preview> {
    return this.#parts.previews.put(id, port, request);
  }

  removePreview(id: SandboxId, port: number): Promise<void> {
    return this.#parts.previews.remove(id, port);
  }

  async listPreviews(id: SandboxId): Promise<Preview[]> {
    return this.#parts.previews.list(id);
  }

  findPreview(id: SandboxId, port: number): PreviewEntry | undefined {
    return this.#parts.registry.findPreview(id, port);
  }

  onChange(listener: (id: SandboxId) => void): () => void {
    return this.#parts.registry.onChange(listener);
  }

  startCommandLogs(
    id: SandboxId,
    options: { follow?: boolean; signal?: AbortSignal } = {},
  ): AsyncIterable<StartCommandOutput> {
    return this.#parts.access.startCommandLogs(id, options);
  }

  counts(): Record<SandboxState, number> {
    return this.#parts.registry.counts();
  }

  memory(): MemoryFacts {
    return this.#parts.admission.facts();
  }

  capabilities(): DriverCapabilities {
    invariant(this.#capabilities !== undefined, "sandboxes are opened before they are used");
    return this.#capabilities;
  }

  reconcile(): Promise<ReconcileReport> {
    return this.#parts.reconciler.run({ isBoot: false, foreignVolumes: this.#foreignVolumes });
  }

  /** Lets transitions under way end; sandboxes and their commands go on without us. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await this.#cleanup.disposeAsync();
    const { promise: overdue, resolve } = Promise.withResolvers<void>();
    using _timer = this.#options.clock.after(DRAIN_MS_MAX, resolve);
    await Promise.race([Promise.allSettled(this.#inFlight), overdue]);
    const used = [...this.#parts.registry.all()].filter((record) => record.isActivityUnsaved);
    if (used.length > 0) await this.#parts.upkeep.saveActivity(used);
  }

  #view(record: SandboxRecord): Sandbox {
    return viewSandbox(record, this.#options.previewUrl);
  }

  async #wake(
    record: SandboxRecord,
    options: { reason: string; signal?: AbortSignal | undefined },
  ): Promise<void> {
    if (this.#isClosing) throw draining();
    const isLeader = record.waking === undefined;
    const wake = this.#parts.waker.wake(record, options);
    if (!isLeader || record.waking === undefined) {
      await wake;
      return;
    }
    const { waking } = record;
    this.#background("sandbox.wake", () => waking, {
      sandboxId: record.id,
      reason: options.reason,
    });
    await wake;
  }

  /** A change under the sandbox's lock that goes on whatever becomes of its caller. */
  async #locked(id: SandboxId, change: (record: SandboxRecord) => Promise<void>): Promise<Sandbox> {
    const record = this.#parts.registry.require(id);
    await this.#track(
      this.#parts.lock.run(id, async () => {
        const isGone = () => this.#parts.registry.find(id) !== record;
        if (!isGone()) await this.#parts.lifecycle.settle(record);
        if (isGone() || record.row.state === "destroyed") throw notFound(id);
        await change(record);
      }),
    );
    return this.#view(record);
  }

  #operation<Result>(
    event: string,
    fields: Record<string, unknown>,
    work: (note: (fields: Record<string, unknown>) => void) => Promise<Result>,
  ): Promise<Result> {
    if (this.#isClosing) return Promise.reject(draining());
    const { logger, clock } = this.#options;
    return this.#track(operation({ logger, clock, event, fields }, work));
  }

  #background(
    event: string,
    work: () => Promise<unknown>,
    fields: Record<string, unknown> = {},
  ): void {
    const failed = (error: unknown) =>
      this.#options.logger.warn(event, { ...fields, error: describeError(error) });
    this.#track(work()).catch(failed);
  }

  #track<Result>(work: Promise<Result>): Promise<Result> {
    this.#inFlight.add(work);
    const done = () => this.#inFlight.delete(work);
    work.then(done, done);
    return work;
  }
}

function draining(): BelljarError {
  return new BelljarError("DRAINING", "the daemon is stopping");
}
