import { invariant } from "./invariant.ts";

/** The parsed arguments and options of one run, read with their types checked. */
export class Input {
  readonly #values: ReadonlyMap<string, unknown>;

  constructor(values: ReadonlyMap<string, unknown>) {
    this.#values = values;
  }

  has(name: string): boolean {
    return this.#values.get(name) !== undefined;
  }

  flag(name: string): boolean {
    return this.#values.get(name) === true;
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    return value === undefined ? undefined : expectText(name, value);
  }

  /** An argument that commander has made sure is there. */
  required(name: string): string {
    return expectText(name, this.#values.get(name));
  }

  number(name: string): number | undefined {
    const value = this.#values.get(name);
    invariant(value === undefined || typeof value === "number", `option ${name} is not a number`);
    return value;
  }

  /** A number, or null where the person wrote `never` or `none`. */
  numberOrNull(name: string): number | null | undefined {
    return this.#values.get(name) === null ? null : this.number(name);
  }

  texts(name: string): string[] {
    return this.list(name).map((value) => expectText(name, value));
  }

  /** The values of an option that may be given several times, as its parser made them. */
  list(name: string): readonly unknown[] {
    const value = this.#values.get(name);
    if (value === undefined) return [];
    invariant(Array.isArray(value), `${name} is not a list`);
    return value;
  }

  /** `NAME=VALUE` options as an object; a later one wins. */
  pairs(name: string): Record<string, string> {
    const pairs: Record<string, string> = {};
    for (const value of this.list(name)) {
      invariant(Array.isArray(value), `${name} is not a list of pairs`);
      pairs[expectText(name, value[0])] = expectText(name, value[1]);
    }
    return pairs;
  }
}

function expectText(name: string, value: unknown): string {
  invariant(typeof value === "string", `${name} is not text`);
  return value;
}
