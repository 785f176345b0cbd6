import { z } from "zod";
import { configSchema } from "./schema.ts";

/** One key of the configuration, as flags, environment and documents name it. */
export interface ConfigKey {
  /** `server.port` */
  readonly key: string;
  readonly path: readonly string[];
  /** `BELLJAR_SERVER__PORT` */
  readonly env: string;
  readonly kind: "string" | "number" | "boolean" | "array" | "enum";
  readonly choices: readonly string[];
  readonly isNullable: boolean;
  readonly description: string;
  /** Undefined where the default depends on the machine */
  readonly defaultValue: unknown;
}

/** Every key, in the schema's order. */
export function configKeys(): ConfigKey[] {
  return [...leaves(configSchema, [])];
}

function* leaves(schema: z.ZodType, path: string[]): Generator<ConfigKey> {
  const facts = unwrap(schema);
  if (facts.inner instanceof z.ZodObject) {
    for (const [name, child] of Object.entries(facts.inner.shape)) {
      if (child instanceof z.ZodType) yield* leaves(child, [...path, name]);
    }
    return;
  }
  yield {
    key: path.join("."),
    path,
    env: envName(path),
    kind: kindOf(facts.inner),
    choices: facts.inner instanceof z.ZodEnum ? facts.inner.options.map(String) : [],
    isNullable: facts.isNullable,
    description: facts.description,
    defaultValue: facts.defaultValue,
  };
}

interface Facts {
  inner: z.ZodType;
  isNullable: boolean;
  description: string;
  defaultValue: unknown;
}

/** Walks through the wrappers (default, nullable, …) down to the type itself. */
function unwrap(schema: z.ZodType): Facts {
  const facts: Facts = {
    inner: schema,
    isNullable: false,
    description: "",
    defaultValue: undefined,
  };
  for (;;) {
    const { inner } = facts;
    if (facts.description === "") facts.description = inner.description ?? "";
    if (inner instanceof z.ZodNullable) facts.isNullable = true;
    if (inner instanceof z.ZodDefault) facts.defaultValue = inner.def.defaultValue;
    const isWrapper =
      inner instanceof z.ZodDefault ||
      inner instanceof z.ZodPrefault ||
      inner instanceof z.ZodNullable;
    if (!isWrapper) return facts;
    const next = inner.def.innerType;
    if (!(next instanceof z.ZodType)) return facts;
    facts.inner = next;
  }
}

function kindOf(schema: z.ZodType): ConfigKey["kind"] {
  if (schema instanceof z.ZodNumber) return "number";
  if (schema instanceof z.ZodBoolean) return "boolean";
  if (schema instanceof z.ZodArray) return "array";
  if (schema instanceof z.ZodEnum) return "enum";
  return "string";
}

function envName(path: readonly string[]): string {
  const words = path.map((part) => part.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase());
  return `BELLJAR_${words.join("__")}`;
}

/** A text from a flag or the environment in the key's own type. Throws nothing: a problem is text. */
export function parseText(key: ConfigKey, text: string): { value: unknown } | { problem: string } {
  if (key.isNullable && text === "null") return { value: null };
  switch (key.kind) {
    case "number":
      return /^-?[0-9]+(\.[0-9]+)?$/.test(text)
        ? { value: Number(text) }
        : { problem: `must be a number, got ${JSON.stringify(text)}` };
    case "boolean":
      return text === "true" || text === "false"
        ? { value: text === "true" }
        : { problem: `must be true or false, got ${JSON.stringify(text)}` };
    case "array":
      return { value: text === "" ? [] : text.split(",").map((part) => part.trim()) };
    case "enum":
    case "string":
      return { value: text };
  }
}
