import type { DaemonEvent } from "@belljar/protocol";
import type { Clock } from "../kernel/index.ts";
import { describeError } from "../log/index.ts";
import type { Logger } from "../log/index.ts";
import type { EventEntry, Store, WriteStep } from "../store/index.ts";
import type { EventLog } from "./service.ts";

const PAGE_MAX = 500;
/** Events written between two looks at retention */
const TRIM_EVERY = 512;

/** Events in the store, with a bell for those who wait. Readers page through the store, so none holds memory. */
export class StoredEventLog implements EventLog {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #retainedCount: number;
  readonly #waiting = new Set<() => void>();
  #assignedId = 0;
  #publishedId = 0;

  constructor(options: { store: Store; clock: Clock; logger: Logger; retainedCount: number }) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#retainedCount = options.retainedCount;
  }

  async open(): Promise<void> {
    this.#assignedId = await this.#store.events.newestId();
    this.#publishedId = this.#assignedId;
  }

  get newestId(): number {
    return this.#publishedId;
  }

  /** A step that stores the event along with the change that it tells of; call `publish` when it is written. */
  step(
    type: DaemonEvent["type"],
    sandboxId: string | null,
    data: Record<string, unknown>,
  ): WriteStep {
    this.#assignedId += 1;
    return this.#store.events.insertStep({
      id: this.#assignedId,
      atMs: this.#clock.now(),
      type,
      sandboxId,
      data,
    });
  }

  /** Wakes the readers. */
  publish(): void {
    const before = this.#publishedId;
    this.#publishedId = this.#assignedId;
    for (const ring of [...this.#waiting]) ring();
    if (Math.floor(before / TRIM_EVERY) !== Math.floor(this.#publishedId / TRIM_EVERY))
      this.#trim();
  }

  async record(
    type: DaemonEvent["type"],
    sandboxId: string | null,
    data: Record<string, unknown>,
  ): Promise<void> {
    await this.#store.write([this.step(type, sandboxId, data)]);
    this.publish();
  }

  async since(
    sinceId: number,
    options: { sandboxId?: string; limit?: number } = {},
  ): Promise<DaemonEvent[]> {
    const entries = await this.#store.events.since(sinceId, {
      ...options,
      limit: options.limit ?? PAGE_MAX,
    });
    return entries.map(toEvent);
  }

  async *stream(
    sinceId: number,
    options: { sandboxId?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<DaemonEvent> {
    const { signal } = options;
    const filter = options.sandboxId === undefined ? {} : { sandboxId: options.sandboxId };
    // An id from the future belongs to another store: such a reader starts with what comes.
    let lastId = Math.min(sinceId, this.#publishedId);
    const isOver = () => signal?.aborted === true;
    while (!isOver()) {
      const newestBefore = this.#publishedId;
      const page = await this.since(lastId, filter);
      for (const event of page) {
        if (isOver()) return;
        yield event;
        lastId = event.id;
      }
      if (page.length === PAGE_MAX) continue;
      lastId = Math.max(lastId, newestBefore);
      await this.#newerThan(lastId, signal);
    }
  }

  async #newerThan(id: number, signal: AbortSignal | undefined): Promise<void> {
    if (this.#publishedId > id || signal?.aborted === true) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const aborted = () => resolve();
    signal?.addEventListener("abort", aborted, { once: true });
    await promise;
    signal?.removeEventListener("abort", aborted);
    this.#waiting.delete(resolve);
  }

  #trim(): void {
    const lastId = this.#publishedId - this.#retainedCount;
    if (lastId <= 0) return;
    this.#store.events.removeUpTo(lastId).catch((error: unknown) => {
      this.#logger.warn("events.trim", { error: describeError(error) });
    });
  }
}

function toEvent(entry: EventEntry): DaemonEvent {
  return {
    id: entry.id,
    at: new Date(entry.atMs).toISOString(),
    type: entry.type,
    sandboxId: entry.sandboxId,
    data: { ...entry.data },
  };
}
