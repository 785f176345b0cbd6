import type { Clock } from "../kernel/index.ts";

/** Something that ends, or must be looked at, at a certain moment. */
export interface Expirable {
  /** Monotonic `ms`; Infinity for never */
  deadlineMs: number;
  onDeadline(): void;
}

const TICK_MS = 250;

/**
 * Deadlines of many connections with one timer: setting one costs an assignment, which matters at
 * twenty thousand requests a second. The price is a tick of lateness. At rest there is no timer.
 */
export class Sweeper {
  readonly #clock: Clock;
  readonly #members = new Set<Expirable>();
  #timer: Disposable | undefined;
  #nowMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#nowMs = clock.monotonic();
  }

  /** Monotonic `ms`, at most a tick old while there are members. */
  get nowMs(): number {
    return this.#nowMs;
  }

  add(member: Expirable): void {
    this.#members.add(member);
    if (this.#timer !== undefined) return;
    this.#nowMs = this.#clock.monotonic();
    this.#timer = this.#clock.every(TICK_MS, () => this.#tick());
  }

  remove(member: Expirable): void {
    this.#members.delete(member);
  }

  #tick(): void {
    this.#nowMs = this.#clock.monotonic();
    for (const member of this.#members) {
      if (member.deadlineMs <= this.#nowMs) member.onDeadline();
    }
    if (this.#members.size > 0) return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }
}
