import { BelljarError } from "@belljar/protocol";
import type { DaemonEvent, SandboxState } from "@belljar/protocol";
import { invariant } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { PreviewRow, SandboxRow, Store, WriteStep } from "../store/index.ts";
import type { StoredEventLog } from "./event-log.ts";
import type { PreviewEntry, SandboxGuest } from "./service.ts";
import { Slots } from "./slots.ts";
import { visibleState } from "./state.ts";

/** One sandbox in memory: its row, and what only matters while this daemon lives. */
export interface SandboxRecord {
  readonly id: SandboxId;
  row: SandboxRow;
  readonly previews: Map<number, PreviewRow>;
  /** Grows with each change that the gateway cares for */
  revision: number;
  /** Grows with each step of a transition: tells a look at the driver whether it is out of date */
  transitionCount: number;
  /** The wake under way, shared by everyone who asks for one */
  waking: Promise<void> | undefined;
  lastActiveAtMs: number;
  isActivityUnsaved: boolean;
  /** Commands, tasks, terminals that run now */
  workCount: number;
  readonly guest: SandboxGuest;
  /** The row could not be written; the reconciler tries again */
  isRowUnsaved: boolean;
}

export type RowPatch = Partial<Omit<SandboxRow, "id" | "slot" | "createdAtMs">>;

interface EventDraft {
  readonly type: DaemonEvent["type"];
  readonly data: Record<string, unknown>;
}

/** Every sandbox in memory, kept equal to the store: changes go to the store first, then here, then to listeners. */
export class SandboxRegistry {
  readonly slots = new Slots();
  readonly #store: Store;
  readonly #events: StoredEventLog;
  readonly #logger: Logger;
  readonly #guestOf: (id: SandboxId) => SandboxGuest;
  readonly #records = new Map<SandboxId, SandboxRecord>();
  readonly #names = new Map<string, SandboxId>();
  readonly #damaged = new Set<string>();
  readonly #listeners = new Set<(id: SandboxId) => void>();

  constructor(options: {
    store: Store;
    events: StoredEventLog;
    logger: Logger;
    guestOf: (id: SandboxId) => SandboxGuest;
  }) {
    this.#store = options.store;
    this.#events = options.events;
    this.#logger = options.logger;
    this.#guestOf = options.guestOf;
  }

  async load(): Promise<void> {
    const rows = await this.#store.sandboxes.all((id, error) => {
      this.#damaged.add(id);
      this.#logger.error("sandbox.row-damaged", { sandboxId: id, error: describeError(error) });
    });
    for (const row of rows) {
      this.slots.take(row.slot);
      this.#put(row);
    }
    for (const preview of await this.#store.previews.all()) {
      const record = this.#records.get(preview.sandboxId as SandboxId);
      record?.previews.set(preview.port, preview);
    }
  }

  get size(): number {
    return this.#records.size;
  }

  /** Oldest first. */
  all(): IterableIterator<SandboxRecord> {
    return this.#records.values();
  }

  find(id: SandboxId): SandboxRecord | undefined {
    return this.#records.get(id);
  }

  /** The record, or SANDBOX_NOT_FOUND; what is being destroyed is found only until it is. */
  require(id: SandboxId): SandboxRecord {
    const record = this.#records.get(id);
    if (record === undefined) throw notFound(id);
    return record;
  }

  /** Whether the store has a row of that id, were it one that cannot be read. */
  hasRow(id: SandboxId): boolean {
    return this.#records.has(id) || this.#damaged.has(id);
  }

  isNameTaken(name: string): boolean {
    return this.#names.has(name);
  }

  /** Takes a new sandbox in, in memory only: what follows must write or `drop` it. */
  add(row: SandboxRow, previews: readonly PreviewRow[]): SandboxRecord {
    invariant(!this.#records.has(row.id), "a fresh sandbox id is already known");
    const record = this.#put(row);
    for (const preview of previews) record.previews.set(preview.port, preview);
    return record;
  }

  /** Stores a change with its event, then shows it. Throws with nothing changed when the store fails. */
  async commit(record: SandboxRecord, patch: RowPatch, event?: EventDraft): Promise<void> {
    const { name } = patch;
    const isRenamed = typeof name === "string" && name !== record.row.name;
    // Taken before the write: of two who want a name at once, the second sees the first.
    if (isRenamed) this.#names.set(name, record.id);
    try {
      await this.#save(record, patch, event);
    } catch (error) {
      if (isRenamed) this.#names.delete(name);
      throw error;
    }
    this.#apply(record, patch);
  }

  /** Shows a change at once and stores it if the store lets it; else the reconciler stores it later. */
  async commitOrKeep(record: SandboxRecord, patch: RowPatch, event?: EventDraft): Promise<void> {
    this.#apply(record, patch);
    try {
      await this.#save(record, patch, event);
    } catch (error) {
      record.isRowUnsaved = true;
      this.#logger.error("sandbox.row-unsaved", {
        sandboxId: record.id,
        error: describeError(error),
      });
    }
  }

  /**
   * Begins a transition: visible in this very turn, so that nobody acts on the state before it, and
   * stored before anything is done. Throws with nothing changed when the store fails.
   */
  async begin(record: SandboxRecord, pending: NonNullable<SandboxRow["pending"]>): Promise<void> {
    const before = record.row.pending;
    this.#apply(record, { pending });
    try {
      await this.write([this.#store.sandboxes.patchStep(record.id, { pending })]);
    } catch (error) {
      this.#apply(record, { pending: before });
      throw error;
    }
  }

  /** Writes steps with an event, and tells who follows events. */
  async write(
    steps: readonly WriteStep[],
    event?: EventDraft & { sandboxId: string | null },
  ): Promise<void> {
    if (event === undefined) {
      await this.#store.write(steps);
      return;
    }
    await this.#store.write([...steps, this.#events.step(event.type, event.sandboxId, event.data)]);
    this.#events.publish();
  }

  /** Writes the row as memory has it. */
  async saveUnsaved(record: SandboxRecord): Promise<void> {
    await this.#save(record, { state: record.row.state });
  }

  /** Removes row and record; the slot and the name are free again. */
  async remove(record: SandboxRecord, event: EventDraft): Promise<void> {
    await this.write([this.#store.sandboxes.removeStep(record.id)], {
      ...event,
      sandboxId: record.id,
    });
    this.drop(record);
  }

  /** Forgets a record that has no row. */
  drop(record: SandboxRecord): void {
    this.#records.delete(record.id);
    this.#freeName(record);
    this.slots.free(record.row.slot);
    this.#changed(record);
  }

  putPreview(record: SandboxRecord, preview: PreviewRow): void {
    record.previews.set(preview.port, preview);
    this.#changed(record);
  }

  removePreview(record: SandboxRecord, port: number): void {
    record.previews.delete(port);
    this.#changed(record);
  }

  findPreview(id: SandboxId, port: number): PreviewEntry | undefined {
    const record = this.#records.get(id);
    const preview = record?.previews.get(port);
    if (record === undefined || preview === undefined) return undefined;
    const state = visibleState(record.row.state, record.row.pending);
    if (state === "destroyed") return undefined;
    return {
      sandboxId: id,
      port,
      visibility: preview.visibility,
      rewriteHost: preview.rewriteHost,
      state,
      revision: record.revision,
    };
  }

  counts(): Record<SandboxState, number> {
    const counts = {
      creating: 0,
      running: 0,
      frozen: 0,
      stopped: 0,
      archived: 0,
      error: 0,
      destroyed: 0,
    };
    for (const record of this.#records.values()) counts[record.row.state] += 1;
    return counts;
  }

  onChange(listener: (id: SandboxId) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #save(record: SandboxRecord, patch: RowPatch, event?: EventDraft): Promise<void> {
    // What could not be written before goes along, or the row would be a mixture of two moments.
    const { id: _id, slot: _slot, createdAtMs: _createdAtMs, ...whole } = record.row;
    const step = this.#store.sandboxes.patchStep(
      record.id,
      record.isRowUnsaved ? { ...whole, ...patch } : patch,
    );
    await this.write([step], event === undefined ? undefined : { ...event, sandboxId: record.id });
    record.isRowUnsaved = false;
  }

  #put(row: SandboxRow): SandboxRecord {
    const record: SandboxRecord = {
      id: row.id,
      row,
      previews: new Map(),
      revision: 0,
      transitionCount: 0,
      waking: undefined,
      lastActiveAtMs: row.lastActiveAtMs,
      isActivityUnsaved: false,
      workCount: 0,
      guest: this.#guestOf(row.id),
      isRowUnsaved: false,
    };
    this.#records.set(row.id, record);
    if (row.name !== null) this.#names.set(row.name, row.id);
    return record;
  }

  #apply(record: SandboxRecord, patch: RowPatch): void {
    if (patch.name !== undefined) this.#freeName(record);
    if (patch.state !== undefined || patch.pending !== undefined) record.transitionCount += 1;
    record.row = { ...record.row, ...patch };
    if (patch.name !== undefined && patch.name !== null) this.#names.set(patch.name, record.id);
    this.#changed(record);
  }

  #freeName(record: SandboxRecord): void {
    const { name } = record.row;
    if (name !== null && this.#names.get(name) === record.id) this.#names.delete(name);
  }

  #changed(record: SandboxRecord): void {
    record.revision += 1;
    for (const listener of this.#listeners) {
      try {
        listener(record.id);
      } catch (error) {
        this.#logger.error("sandbox.listener", {
          sandboxId: record.id,
          error: describeError(error),
        });
      }
    }
  }
}

export function notFound(id: string): BelljarError {
  return new BelljarError("SANDBOX_NOT_FOUND", `there is no sandbox ${id}`, { id });
}
