import { BelljarError } from "@belljar/protocol";
import type { z } from "zod";

/** A JSON column's value, validated: the file may have been edited, or written by another version. */
export function readJson<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  column: string,
): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged(column, "it is not JSON", error);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw damaged(column, parsed.error.message, parsed.error);
  return parsed.data;
}

/** A column's text as one of the values that the schema knows. */
export function readText<Schema extends z.ZodType>(
  schema: Schema,
  text: string,
  column: string,
): z.output<Schema> {
  const parsed = schema.safeParse(text);
  if (!parsed.success) throw damaged(column, `unexpected ${JSON.stringify(text)}`, parsed.error);
  return parsed.data;
}

function damaged(column: string, reason: string, cause: unknown): BelljarError {
  return new BelljarError(
    "STORAGE_FAILED",
    `the store's ${column} is damaged: ${reason}`,
    { column },
    { cause },
  );
}
