import { invariant } from "../../kernel/index.ts";

/** User ids of one sandbox: 0 to 65,535 inside are `base` to `base + count - 1` on the host. */
export interface IdRange {
  readonly base: number;
  readonly count: number;
}

/** First id of slot 0: far above the ids that Debian, systemd and `/etc/subuid` hand out */
const BASE = 0x4000_0000;
const COUNT = 0x1_0000;
/** One more than a range has: the kernel hashes users by their low bits, and multiples of 65,536 would share one chain */
const STRIDE = COUNT + 1;

/** Slots there are room for below the kernel's 32-bit "no id" */
export const SLOT_COUNT_MAX = 48_000;

/** The range of a slot; ranges of different slots never overlap. */
export function rangeOfSlot(slot: number): IdRange {
  invariant(Number.isInteger(slot) && slot >= 0 && slot < SLOT_COUNT_MAX, `slot ${slot}`);
  return { base: BASE + slot * STRIDE, count: COUNT };
}
