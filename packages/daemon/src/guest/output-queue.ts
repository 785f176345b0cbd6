import { invariant } from "../kernel/index.ts";
import { FRAME_OVERHEAD_BYTES, type GuestConnection } from "./connection.ts";
import type { ExecOutput } from "./types.ts";

/** Unread output at which the connection is left alone, so that the command waits */
const QUEUE_BYTES_HIGH = 256 * 1024;
/** Read items that may stay in the array before it is cut */
const READ_COUNT_MAX = 1024;

/** Output between the connection and its one reader. */
export class OutputQueue implements AsyncIterableIterator<ExecOutput> {
  readonly #connection: Pick<GuestConnection, "pause" | "resume">;
  #items: ExecOutput[] = [];
  #at = 0;
  #bytes = 0;
  #paused = false;
  #ended = false;
  #waiter: ((result: IteratorResult<ExecOutput>) => void) | undefined;

  constructor(connection: Pick<GuestConnection, "pause" | "resume">) {
    this.#connection = connection;
  }

  push(item: ExecOutput): void {
    if (this.#ended) return;
    const waiter = this.#waiter;
    if (waiter !== undefined) {
      this.#waiter = undefined;
      waiter({ done: false, value: item });
      return;
    }
    this.#items.push(item);
    this.#bytes += item.data.byteLength + FRAME_OVERHEAD_BYTES;
    if (this.#bytes < QUEUE_BYTES_HIGH || this.#paused) return;
    this.#paused = true;
    this.#connection.pause();
  }

  /** No more will come; what waits can still be read. */
  end(): void {
    this.#ended = true;
    this.#waiter?.({ done: true, value: undefined });
    this.#waiter = undefined;
  }

  next(): Promise<IteratorResult<ExecOutput>> {
    const value = this.#items[this.#at];
    if (value !== undefined) return Promise.resolve({ done: false, value: this.#taken(value) });
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    invariant(this.#waiter === undefined, "output has one reader");
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }

  /** A reader that stops early throws the rest away, so that the command's end can still arrive. */
  return(): Promise<IteratorResult<ExecOutput>> {
    this.end();
    this.#items = [];
    this.#at = this.#bytes = 0;
    this.#resume();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #taken(value: ExecOutput): ExecOutput {
    this.#at += 1;
    this.#bytes -= value.data.byteLength + FRAME_OVERHEAD_BYTES;
    if (this.#at === this.#items.length || this.#at >= READ_COUNT_MAX) {
      this.#items = this.#items.slice(this.#at);
      this.#at = 0;
    }
    if (this.#items.length === 0) this.#resume();
    return value;
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#connection.resume();
  }
}
