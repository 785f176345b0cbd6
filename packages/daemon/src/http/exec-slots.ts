import { BelljarError } from "@belljar/protocol";

/** Counts what runs at the same time under each key, up to a limit. */
export class ExecSlots<Key> {
  readonly #counts = new Map<Key, number>();
  readonly #countMax: number;

  constructor(countMax: number) {
    this.#countMax = countMax;
  }

  /** Takes one until it is disposed. EXEC_LIMIT_REACHED when none is left. */
  take(key: Key): Disposable {
    const count = this.#counts.get(key) ?? 0;
    if (count >= this.#countMax) {
      const message = `${count} commands run in this sandbox, the most allowed`;
      throw new BelljarError("EXEC_LIMIT_REACHED", message, { countMax: this.#countMax });
    }
    this.#counts.set(key, count + 1);
    return { [Symbol.dispose]: () => this.#release(key) };
  }

  #release(key: Key): void {
    const count = (this.#counts.get(key) ?? 1) - 1;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}
