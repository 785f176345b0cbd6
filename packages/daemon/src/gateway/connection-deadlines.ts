import type { Expirable, Sweeper } from "./sweeper.ts";

const NEVER = Number.POSITIVE_INFINITY;

/** What a connection waits for: its client's next bytes, its app's, or nothing that has a time. */
export type Waiting = "head" | "idle" | "body" | "app" | "linger" | "nothing";

/**
 * The times of one client connection. What is waited for changes many times a request; whether the
 * client takes what was written is timed beside it, so that neither hides the other.
 */
export class ConnectionDeadlines implements Expirable {
  deadlineMs = NEVER;
  waiting: Waiting = "nothing";
  #waitEndsMs = NEVER;
  #stallEndsMs = NEVER;
  readonly #sweeper: Sweeper;
  readonly #onEnded: (what: Waiting | "stall") => void;

  constructor(sweeper: Sweeper, onEnded: (what: Waiting | "stall") => void) {
    this.#sweeper = sweeper;
    this.#onEnded = onEnded;
    sweeper.add(this);
  }

  wait(waiting: Exclude<Waiting, "nothing">, durationMs: number): void {
    this.waiting = waiting;
    this.#waitEndsMs = this.#sweeper.nowMs + durationMs;
    this.deadlineMs = Math.min(this.#waitEndsMs, this.#stallEndsMs);
  }

  waitForNothing(): void {
    this.waiting = "nothing";
    this.#waitEndsMs = NEVER;
    this.deadlineMs = this.#stallEndsMs;
  }

  /** Bytes wait for the client to take them; the time runs from the first call. */
  noteStalled(durationMs: number): void {
    if (this.#stallEndsMs !== NEVER) return;
    this.#stallEndsMs = this.#sweeper.nowMs + durationMs;
    this.deadlineMs = Math.min(this.#waitEndsMs, this.#stallEndsMs);
  }

  /** The client has taken everything. */
  noteDrained(): void {
    this.#stallEndsMs = NEVER;
    this.deadlineMs = this.#waitEndsMs;
  }

  onDeadline(): void {
    if (this.#stallEndsMs <= this.#sweeper.nowMs) {
      this.noteDrained();
      this.#onEnded("stall");
      return;
    }
    const { waiting } = this;
    this.waitForNothing();
    this.#onEnded(waiting);
  }

  end(): void {
    this.#sweeper.remove(this);
  }
}
