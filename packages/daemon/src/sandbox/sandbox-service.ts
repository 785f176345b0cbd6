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
import type { DriverCapabilities, SandboxExit } from "../drivers/index.ts";
import type { GuestConnect } from "../guest/index.ts";
import { KeyedLock, invariant } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { describeError, operation } from "../log/index.ts";
import { MemoryAdmission } from "./admission.ts";
import { mergeTimeouts } from "./create-plan.ts";
import { Creator } from "./create.ts";
import type { StoredEventLog } from "./event-log.ts";
import { Lifecycle, describeExit } from "./lifecycle.ts";
import type { HostCeilings } from "./limits.ts";
import { listSandboxes } from "./list.ts";
import { readStartCommand } from "./start-command-logs.ts";
import type { MemoryReader } from "./ports.ts";
import { Previews } from "./previews.ts";
import { Reaper, dueRest } from "./reaper.ts";
import { Reconciler } from "./reconcile.ts";
import { notFound, SandboxRegistry } from "./registry.ts";
import type { SandboxRecord } from "./registry.ts";
import type { SandboxesOptions } from "./sandboxes.ts";
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
import { StartCommands } from "./start-command.ts";
import { visibleState } from "./state.ts";
import { viewSandbox } from "./view.ts";
import { Waker } from "./wake.ts";

/** Setting that lists the volumes which were in the pool before the store was */
const FOREIGN_VOLUMES_SETTING = "volumes.foreign";
/** Milliseconds that closing waits for transitions under way */
const DRAIN_MS_MAX = 15_000;

type ServiceOptions = Omit<SandboxesOptions, "memory" | "ceilings" | "guestOf"> & {
  readonly events: StoredEventLog;
  readonly memory: MemoryReader;
  readonly ceilings: HostCeilings;
  readonly guestOf: (connect: GuestConnect) => SandboxGuest;
};

/** The sandboxes of one daemon: memory and store agree at every moment, driver and store at every reconcile. */
export class StoredSandboxService implements SandboxService {
  readonly #options: ServiceOptions;
  readonly #registry: SandboxRegistry;
  readonly #lock = new KeyedLock<SandboxId>();
  readonly #admission: MemoryAdmission;
  readonly #startCommands: StartCommands;
  readonly #lifecycle: Lifecycle;
  readonly #waker: Waker;
  readonly #reconciler: Reconciler;
  readonly #previews: Previews;
  readonly #cleanup = new AsyncDisposableStack();
  readonly #inFlight = new Set<Promise<unknown>>();
  #capabilities: DriverCapabilities | undefined;
  #creator: Creator | undefined;
  #foreignVolumes: ReadonlySet<string> = new Set();
  #isClosing = false;

  constructor(options: ServiceOptions) {
    const { store, driver, events, logger, clock, settings, templates } = options;
    this.#options = options;
    const guestOf = (id: SandboxId) => options.guestOf((signal) => driver.connectGuest(id, signal));
    this.#registry = new SandboxRegistry({ store, events, logger, guestOf });
    this.#admission = new MemoryAdmission({ memory: options.memory, clock, settings });
    this.#startCommands = new StartCommands({
      clock,
      logger,
      defaultsOf: (record) => this.#defaultsOf(record),
      onExit: async (record, exit) => {
        const event = { type: "start-command.exited" as const, sandboxId: record.id, data: { ...exit } };
        await this.#registry.write([], event);
      },
    });
    const shared = { registry: this.#registry, driver, logger, startCommands: this.#startCommands };
    this.#lifecycle = new Lifecycle({
      ...shared,
      templates,
      admission: this.#admission,
      clock,
      stopGraceMs: settings.stopGraceMs,
    });
    this.#waker = new Waker({ ...shared, lifecycle: this.#lifecycle, admission: this.#admission, lock: this.#lock });
    this.#reconciler = new Reconciler({ ...shared, lifecycle: this.#lifecycle, lock: this.#lock });
    this.#previews = new Previews({ registry: this.#registry, store, lock: this.#lock, previewUrl: options.previewUrl });
  }

  async open(): Promise<ReconcileReport> {
    const { driver, clock, settings, events } = this.#options;
    this.#capabilities = await driver.capabilities();
    await events.open();
    await this.#registry.load();
    this.#foreignVolumes = await this.#readForeignVolumes();
    this.#creator = new Creator({
      ...this.#options,
      capabilities: this.#capabilities,
      registry: this.#registry,
      lifecycle: this.#lifecycle,
      admission: this.#admission,
      lock: this.#lock,
    });
    this.#cleanup.use(this.#startCommands);
    this.#cleanup.defer(driver.onExit((exit) => this.#exited(exit)));
    const report = await this.#reconciler.run({ isBoot: true, foreignVolumes: this.#foreignVolumes });
    this.#cleanup.use(
      new Reaper({
        clock,
        intervalMs: settings.reaperIntervalMs,
        records: () => this.#registry.all(),
        rest: (record) => this.#background("sandbox.rest", () => this.#rest(record)),
        saveActivity: (records) => this.#background("sandbox.activity", () => this.#saveActivity(records)),
      }),
    );
    this.#cleanup.use(
      clock.every(settings.reconcileIntervalMs, () => this.#background("sandbox.reconcile", () => this.reconcile())),
    );
    return report;
  }

  create(input: CreateSandboxInput, caller: Caller): Promise<Sandbox> {
    return this.#operation("sandbox.create", { template: input.template }, async (note) => {
      invariant(this.#creator !== undefined, "sandboxes are opened before they are used");
      const id = await this.#creator.create(input, caller);
      note({ sandboxId: id });
      return this.#view(this.#registry.require(id));
    });
  }

  async get(id: SandboxId): Promise<Sandbox> {
    return this.#view(this.#registry.require(id));
  }

  async list(query: ListSandboxesQuery): Promise<{ items: Sandbox[]; nextCursor: string | null }> {
    const { records, nextCursor } = listSandboxes(this.#registry.all(), query);
    return { items: records.map((record) => this.#view(record)), nextCursor };
  }

  async update(id: SandboxId, changes: UpdateSandboxRequest): Promise<Sandbox> {
    return await this.#locked(id, async (record) => {
      const { name, metadata, timeouts } = changes;
      if (typeof name === "string" && name !== record.row.name && this.#registry.isNameTaken(name)) {
        throw new BelljarError("SANDBOX_NAME_TAKEN", `another sandbox is called ${name}`, { name });
      }
      const patch = {
        ...(name === undefined ? {} : { name }),
        ...(metadata === undefined ? {} : { metadata }),
        ...(timeouts === undefined ? {} : { timeouts: mergeTimeouts(record.row.timeouts, timeouts) }),
      };
      if (Object.keys(patch).length === 0) return;
      await this.#registry.commit(record, patch, { type: "sandbox.updated", data: { changed: Object.keys(patch) } });
    });
  }

  destroy(id: SandboxId, options: { keepWorkspace?: boolean } = {}): Promise<void> {
    const keepWorkspace = options.keepWorkspace === true;
    return this.#operation("sandbox.destroy", { sandboxId: id, keepWorkspace }, async () => {
      const record = this.#registry.require(id);
      await this.#lock.run(id, async () => {
        if (this.#registry.find(id) !== record) throw notFound(id);
        if (keepWorkspace && record.row.state === "destroyed") return;
        await this.#lifecycle.destroy(record, keepWorkspace, "request");
      });
    });
  }

  freeze(id: SandboxId): Promise<Sandbox> {
    return this.#operation("sandbox.freeze", { sandboxId: id }, () =>
      this.#locked(id, async (record) => {
        if (record.row.state !== "frozen") await this.#lifecycle.freeze(record, "request");
      }),
    );
  }

  stop(id: SandboxId): Promise<Sandbox> {
    return this.#operation("sandbox.stop", { sandboxId: id }, () =>
      this.#locked(id, async (record) => {
        if (record.row.state !== "stopped") await this.#lifecycle.stop(record, "request");
      }),
    );
  }

  async wake(id: SandboxId, options: { reason: string; signal?: AbortSignal }): Promise<Sandbox> {
    const record = this.#registry.require(id);
    await this.#wake(record, options);
    this.touch(id);
    return this.#view(record);
  }

  async keepAlive(id: SandboxId, forMs: number): Promise<Sandbox> {
    return await this.#locked(id, async (record) => {
      const keepAliveUntilMs = forMs === 0 ? null : this.#options.clock.now() + forMs;
      await this.#registry.commit(record, { keepAliveUntilMs });
      this.touch(id);
    });
  }

  async usage(id: SandboxId): Promise<Usage> {
    const record = this.#registry.require(id);
    const { driver } = this.#options;
    const isLiving = record.row.state === "running" || record.row.state === "frozen";
    const [now, disk] = await Promise.all([
      isLiving ? driver.usage(id) : undefined,
      // Not every pool can tell, and nothing else of the answer depends on it.
      driver.volumeUsage(id).catch(() => undefined),
    ]);
    if (now !== undefined) this.#admission.observe(id, now.memoryBytes);
    return {
      memoryBytes: now?.memoryBytes ?? 0,
      cpuTimeMs: now?.cpuTimeMs ?? 0,
      processCount: now?.processCount ?? 0,
      oomKillCount: now?.oomKills ?? 0,
      diskUsedBytes: disk?.usedBytes ?? null,
    };
  }

  async guest(id: SandboxId, options: { wake?: boolean; signal?: AbortSignal } = {}): Promise<SandboxGuest> {
    const record = this.#registry.require(id);
    const state = visibleState(record.row.state, record.row.pending);
    if (state !== "running") {
      if (options.wake === false) {
        throw new BelljarError("SANDBOX_STATE", `sandbox ${id} is ${state}, not running`, { id, state });
      }
      await this.#wake(record, { reason: "request", signal: options.signal });
    }
    this.touch(id);
    return record.guest;
  }

  async dialPort(id: SandboxId, port: number, signal?: AbortSignal): Promise<Duplex> {
    const record = this.#registry.require(id);
    const state = visibleState(record.row.state, record.row.pending);
    if (state !== "running") {
      throw new BelljarError("SANDBOX_STATE", `sandbox ${id} is ${state}, not running`, { id, state });
    }
    return this.capabilities().canDial
      ? await this.#options.driver.dialPort(id, port, signal)
      : await record.guest.dialPort(port, signal);
  }

  async commandDefaults(id: SandboxId): Promise<CommandDefaults> {
    return await this.#defaultsOf(this.#registry.require(id));
  }

  async withActivity<Result>(id: SandboxId, work: () => Promise<Result>): Promise<Result> {
    const record = this.#registry.require(id);
    record.workCount += 1;
    this.touch(id);
    try {
      return await work();
    } finally {
      record.workCount -= 1;
      this.touch(id);
    }
  }

  touch(id: SandboxId): void {
    const record = this.#registry.find(id);
    if (record === undefined) return;
    record.lastActiveAtMs = this.#options.clock.now();
    record.isActivityUnsaved = true;
  }

  opened(id: SandboxId): void {
    this.touch(id);
  }

  closed(id: SandboxId): void {
    this.touch(id);
  }

  putPreview(id: SandboxId, port: number, request: PutPreviewRequest): Promise<Preview> {
    return this.#previews.put(id, port, request);
  }

  removePreview(id: SandboxId, port: number): Promise<void> {
    return this.#previews.remove(id, port);
  }

  async listPreviews(id: SandboxId): Promise<Preview[]> {
    return this.#previews.list(id);
  }

  findPreview(id: SandboxId, port: number): PreviewEntry | undefined {
    return this.#registry.findPreview(id, port);
  }

  onChange(listener: (id: SandboxId) => void): () => void {
    return this.#registry.onChange(listener);
  }

  async *startCommandLogs(
    id: SandboxId,
    options: { follow?: boolean; signal?: AbortSignal } = {},
  ): AsyncGenerator<StartCommandOutput> {
    const guest = await this.guest(id, { wake: false });
    yield* readStartCommand(guest, { ...options, clock: this.#options.clock });
  }

  counts(): Record<SandboxState, number> {
    return this.#registry.counts();
  }

  memory(): MemoryFacts {
    return this.#admission.facts();
  }

  capabilities(): DriverCapabilities {
    invariant(this.#capabilities !== undefined, "sandboxes are opened before they are used");
    return this.#capabilities;
  }

  reconcile(): Promise<ReconcileReport> {
    return this.#reconciler.run({ isBoot: false, foreignVolumes: this.#foreignVolumes });
  }

  /** Lets transitions under way end; sandboxes and their commands go on without us. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await this.#cleanup.disposeAsync();
    const { promise: overdue, resolve } = Promise.withResolvers<void>();
    using _timer = this.#options.clock.after(DRAIN_MS_MAX, resolve);
    await Promise.race([Promise.allSettled(this.#inFlight), overdue]);
    const used = [...this.#registry.all()].filter((record) => record.isActivityUnsaved);
    if (used.length > 0) await this.#saveActivity(used);
  }

  #view(record: SandboxRecord): Sandbox {
    return viewSandbox(record, this.#options.previewUrl);
  }

  async #wake(record: SandboxRecord, options: { reason: string; signal?: AbortSignal | undefined }): Promise<void> {
    if (this.#isClosing) throw draining();
    const isLeader = record.waking === undefined;
    const wake = this.#waker.wake(record, options);
    if (!isLeader || record.waking === undefined) {
      await wake;
      return;
    }
    const { waking } = record;
    this.#background("sandbox.wake", () => waking, { sandboxId: record.id, reason: options.reason });
    await wake;
  }

  /** A change under the sandbox's lock that goes on whatever becomes of its caller. */
  async #locked(id: SandboxId, change: (record: SandboxRecord) => Promise<void>): Promise<Sandbox> {
    const record = this.#registry.require(id);
    await this.#track(
      this.#lock.run(id, async () => {
        if (this.#registry.find(id) !== record || record.row.state === "destroyed") throw notFound(id);
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

  #background(event: string, work: () => Promise<unknown>, fields: Record<string, unknown> = {}): void {
    const failed = (error: unknown) => this.#options.logger.warn(event, { ...fields, error: describeError(error) });
    this.#track(work()).catch(failed);
  }

  #track<Result>(work: Promise<Result>): Promise<Result> {
    this.#inFlight.add(work);
    const done = () => this.#inFlight.delete(work);
    work.then(done, done);
    return work;
  }

  /** The driver told of an end: if nothing of ours caused it, the sandbox is stopped and says why. */
  #exited(exit: SandboxExit): void {
    const record = this.#registry.find(exit.id);
    if (record === undefined) return;
    this.#background("sandbox.ended", () =>
      this.#lock.run(exit.id, async () => {
        const { state } = record.row;
        if (this.#registry.find(exit.id) !== record || (state !== "running" && state !== "frozen")) return;
        // The news may be of the life before this one.
        const living = await this.#options.driver.list();
        if (living.some((other) => other.id === exit.id)) return;
        const why = describeExit(exit);
        await this.#lifecycle.ended(record, why);
        this.#options.logger.warn("sandbox.ended", { sandboxId: exit.id, ...why });
      }),
    );
  }

  async #rest(record: SandboxRecord): Promise<void> {
    if (this.#lock.isHeld(record.id)) return;
    await this.#lock.run(record.id, async () => {
      if (this.#registry.find(record.id) !== record) return;
      const due = dueRest(record, this.#options.clock.now());
      if (due === undefined) return;
      const { logger, clock } = this.#options;
      const fields = { sandboxId: record.id, action: due.action, reason: due.reason };
      await operation({ logger, clock, event: "sandbox.rest", fields }, async () => {
        if (due.action === "freeze") await this.#lifecycle.freeze(record, due.reason);
        else if (due.action === "stop") await this.#lifecycle.stop(record, due.reason);
        else await this.#lifecycle.destroy(record, false, due.reason);
      });
    });
  }

  async #saveActivity(records: SandboxRecord[]): Promise<void> {
    const steps = records.map((record) => {
      record.isActivityUnsaved = false;
      return this.#options.store.sandboxes.patchStep(record.id, { lastActiveAtMs: record.lastActiveAtMs });
    });
    await this.#options.store.write(steps);
  }

  async #defaultsOf(record: SandboxRecord): Promise<CommandDefaults> {
    const template = await this.#options.templates.resolve(record.row.template);
    return { env: { ...template.env, ...record.row.env }, user: template.user, cwd: template.workdir };
  }

  /** A new store over an old pool: what lies there was somebody's work and is left alone for ever. */
  async #readForeignVolumes(): Promise<ReadonlySet<string>> {
    const { store, driver, logger } = this.#options;
    const known = await store.settings.get(FOREIGN_VOLUMES_SETTING);
    if (known !== undefined) return new Set(known === "" ? [] : known.split(","));
    const found = (await driver.listVolumes()).filter((id) => !this.#registry.hasRow(id));
    await store.settings.set(FOREIGN_VOLUMES_SETTING, found.join(","));
    if (found.length > 0) logger.warn("sandbox.foreign-volumes", { volumeCount: found.length });
    return new Set(found);
  }
}

function draining(): BelljarError {
  return new BelljarError("DRAINING", "the daemon is stopping");
}
