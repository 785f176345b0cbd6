/**
 * One queue a key: callers of the same key run one after the other, in the order they came.
 * It is what makes a sandbox's transitions exclude each other.
 */
export class KeyedLock<Key> {
  readonly #tails = new Map<Key, Promise<void>>();

  /** Runs `work` when every earlier holder of `key` has ended, whatever their outcome. */
  async run<Result>(key: Key, work: () => Promise<Result>): Promise<Result> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const { promise: mine, resolve: release } = Promise.withResolvers<void>();
    this.#tails.set(key, mine);
    await before;
    try {
      return await work();
    } finally {
      if (this.#tails.get(key) === mine) this.#tails.delete(key);
      release();
    }
  }

  /** Whether someone holds or waits for `key`. */
  isHeld(key: Key): boolean {
    return this.#tails.has(key);
  }
}
