import { inspect } from "node:util";

const MASK = "[secret]";

/**
 * A value that never shows itself by accident: printing, logging, inspecting and serialising give
 * a mask. `expose()` is the only way to the value, so every use can be found by its name.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The value itself. */
  expose(): string {
    return this.#value;
  }

  toString(): string {
    return MASK;
  }

  toJSON(): string {
    return MASK;
  }

  [inspect.custom](): string {
    return MASK;
  }
}
