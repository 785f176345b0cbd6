/** A small seeded generator (mulberry32), so that a failing run can be run again. */
export interface Random {
  /** 0 ≤ x < 1 */
  next(): number;
  /** An integer, 0 ≤ x < below */
  below(below: number): number;
  /** One of `items`, or undefined if there is none */
  pick<Item>(items: readonly Item[]): Item | undefined;
}

/** The generator that `seed` starts. */
export function randomFrom(seed: number): Random {
  const state = { value: seed >>> 0 };
  const next = () => {
    state.value = (state.value + 0x6d2b79f5) >>> 0;
    let mixed = state.value;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (bound: number) => Math.floor(next() * bound);
  return { next, below, pick: (items) => items[below(items.length)] };
}
