import { BelljarError } from "@belljar/protocol";
import { SLOT_COUNT_MAX } from "../drivers/index.ts";

/** Small numbers, each one sandbox's at a time. The lowest free one is given, so ids stay dense. */
export class Slots {
  readonly #used = new Set<number>();
  #lowestMaybeFree = 0;

  /** Marks one as taken by a stored sandbox. */
  take(slot: number): void {
    this.#used.add(slot);
  }

  allocate(): number {
    let slot = this.#lowestMaybeFree;
    while (this.#used.has(slot)) slot += 1;
    if (slot >= SLOT_COUNT_MAX) {
      throw new BelljarError(
        "SANDBOX_LIMIT_REACHED",
        `all ${SLOT_COUNT_MAX} user-id ranges are in use`,
        {
          slotCountMax: SLOT_COUNT_MAX,
        },
      );
    }
    this.#used.add(slot);
    this.#lowestMaybeFree = slot + 1;
    return slot;
  }

  free(slot: number): void {
    this.#used.delete(slot);
    this.#lowestMaybeFree = Math.min(this.#lowestMaybeFree, slot);
  }
}
