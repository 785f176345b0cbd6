import { z } from "zod";

/** Milliseconds since the epoch as an ISO 8601 instant in UTC. */
export const instant = z
  .string()
  .meta({ format: "date-time", examples: ["2026-01-31T12:00:00.000Z"] });

/** A sandbox's id: 20 characters of [a-z0-9], first a letter. */
export const sandboxIdSchema = z
  .string()
  .regex(/^[a-z][a-z0-9]{19}$/, "must be 20 characters of [a-z0-9], the first a letter");

/** A task's, link's or token's id. */
export const objectIdSchema = z
  .string()
  .regex(/^[a-z][a-z0-9]{19}$/, "must be 20 characters of [a-z0-9], the first a letter");

/** A TCP port. */
export const portSchema = z.number().int().min(1).max(65535);

/** The same in a path or a query, without leading zeros. */
export const portTextSchema = z
  .string()
  .regex(/^[1-9][0-9]{0,4}$/, "must be a port, 1 to 65535")
  .transform(Number)
  .pipe(portSchema);

/** A name people choose: lower case, digits, dashes; up to 63 characters. */
export const nameSchema = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    "must be 1 to 63 of [a-z0-9-], not starting or ending with a dash",
  );

/** An absolute path inside a sandbox. */
export const sandboxPathSchema = z
  .string()
  .min(1)
  .max(4095)
  .refine((path) => path.startsWith("/"), "must be absolute")
  .refine((path) => !path.includes("\0"), "must not contain NUL");

/** A user of the sandbox: a name, or `uid` or `uid:gid`. */
export const userSchema = z
  .string()
  .regex(
    /^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}(:[0-9]{1,10})?)$/,
    "must be a user name or uid[:gid]",
  );

const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const ENV_COUNT_MAX = 512;
const ENV_VALUE_CHARS_MAX = 128 * 1024;

/** Environment variables. A name holds no `=` and no NUL, a value no NUL. */
export const envSchema = z
  .record(
    z.string().max(256).regex(ENV_NAME, "must be a variable name: [A-Za-z_][A-Za-z0-9_]*"),
    z
      .string()
      .max(ENV_VALUE_CHARS_MAX)
      .refine((value) => !value.includes("\0"), "must not contain NUL"),
  )
  .refine((env) => Object.keys(env).length <= ENV_COUNT_MAX, `at most ${ENV_COUNT_MAX} variables`);

const METADATA_COUNT_MAX = 64;

/** Free labels of an object, for people and for list filters. */
export const metadataSchema = z
  .record(z.string().min(1).max(128), z.string().max(1024))
  .refine(
    (metadata) => Object.keys(metadata).length <= METADATA_COUNT_MAX,
    `at most ${METADATA_COUNT_MAX} entries`,
  );

/** Page of a list: `nextCursor` is null on the last page. */
export function pageOf<Item extends z.ZodType>(item: Item) {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() });
}

/** Query of every list. */
export const pageQuerySchema = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().max(512).optional(),
});

/** `true` or `false` in a query; anything else is refused. */
export const flagQuerySchema = z.enum(["true", "false"]).transform((text) => text === "true");

/** The body of every answer that is not 2xx. */
export const errorEnvelopeSchema = z
  .object({
    error: z.object({
      code: z.string(),
      message: z.string(),
      retryable: z.boolean(),
      hint: z.string(),
      details: z.record(z.string(), z.unknown()).optional(),
      requestId: z.string().optional(),
    }),
  })
  .meta({ id: "Error" });
