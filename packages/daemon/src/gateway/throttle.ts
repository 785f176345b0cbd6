/** Addresses remembered at once; beyond it the oldest are forgotten. */
const ADDRESS_COUNT_MAX = 10_000;
const WINDOW_MS = 60_000;

/** Counts events by address in windows of a minute. Bounded, so a flood of addresses costs no memory. */
export class Throttle {
  readonly #countMax: number;
  readonly #nowMs: () => number;
  readonly #seen = new Map<string, { sinceMs: number; count: number }>();

  constructor(countMax: number, nowMs: () => number) {
    this.#countMax = countMax;
    this.#nowMs = nowMs;
  }

  note(address: string): void {
    const nowMs = this.#nowMs();
    const entry = this.#seen.get(address);
    if (entry !== undefined && nowMs - entry.sinceMs < WINDOW_MS) {
      entry.count += 1;
      return;
    }
    this.#seen.delete(address);
    this.#seen.set(address, { sinceMs: nowMs, count: 1 });
    if (this.#seen.size <= ADDRESS_COUNT_MAX) return;
    for (const oldest of this.#seen.keys()) {
      this.#seen.delete(oldest);
      break;
    }
  }

  isExceeded(address: string): boolean {
    const entry = this.#seen.get(address);
    return (
      entry !== undefined &&
      entry.count >= this.#countMax &&
      this.#nowMs() - entry.sinceMs < WINDOW_MS
    );
  }
}
