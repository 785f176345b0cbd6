import { BelljarError } from "@belljar/protocol";
import type { FastifySchemaCompiler } from "fastify";
import { z } from "zod";

const ISSUES_SHOWN_MAX = 8;
const VALUE_SHOWN_CHARS_MAX = 120;

const WHERE: Readonly<Record<string, string>> = { querystring: "query", params: "path" };

/** Parses a request's part by its schema; what does not fit is BAD_REQUEST with field, value and reason. */
export const validatorCompiler: FastifySchemaCompiler<unknown> = ({ schema, httpPart }) => {
  const part = httpPart ?? "body";
  const where = WHERE[part] ?? part;
  return (data: unknown) => {
    if (!(schema instanceof z.ZodType)) return { value: data };
    // A POST without a body is a POST of an empty object: every field may have a default.
    const input = part === "body" && (data === undefined || data === null) ? {} : data;
    const result = schema.safeParse(input);
    if (result.success) return { value: result.data };
    return { error: invalidInput(result.error.issues, input, where) };
  };
};

/** BAD_REQUEST that names each field with what was wrong and what was given. */
export function invalidInput(
  issues: readonly z.core.$ZodIssue[],
  input: unknown,
  where: string,
): BelljarError {
  const fields = issues.slice(0, ISSUES_SHOWN_MAX).map((issue) => describe(issue, input, where));
  const more =
    issues.length > ISSUES_SHOWN_MAX ? `; and ${issues.length - ISSUES_SHOWN_MAX} more` : "";
  const message = fields.map(
    ({ field, problem, value }) =>
      `${field}: ${problem}${value === undefined ? "" : `, got ${value}`}`,
  );
  return new BelljarError("BAD_REQUEST", message.join("; ") + more, { fields });
}

interface Field {
  field: string;
  problem: string;
  value?: string;
}

function describe(issue: z.core.$ZodIssue, input: unknown, where: string): Field {
  const field = [where, ...issue.path.map(String)].join(".").slice(0, 300);
  const problem = problemOf(issue).slice(0, 300);
  if (issue.code === "unrecognized_keys") return { field, problem };
  const value = shownValue(valueAt(input, issue.path));
  return value === undefined ? { field, problem } : { field, problem, value };
}

function problemOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_key") return issue.issues[0]?.message ?? issue.message;
  if (issue.code !== "invalid_union") return issue.message;
  const branches = issue.errors.map((errors) => errors[0]).filter((first) => first !== undefined);
  const texts = branches.map(
    (first) => (first.path.length === 0 ? "" : `${first.path.join(".")}: `) + problemOf(first),
  );
  return [...new Set(texts)].join(", or ") || issue.message;
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const name of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name))
      return undefined;
    value = Reflect.get(value, name);
  }
  return value;
}

function shownValue(value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string") return JSON.stringify(value.slice(0, VALUE_SHOWN_CHARS_MAX));
  if (typeof value === "number" || typeof value === "boolean" || value === null)
    return String(value);
  return Array.isArray(value) ? `a list of ${value.length}` : "an object";
}
