import { z } from "zod";
import { instant, objectIdSchema } from "./common.ts";
import { sandboxStateSchema } from "./sandboxes.ts";

/** What a token may do: `read` looks, `operate` also changes, `admin` also manages tokens. */
export const scopeSchema = z.enum(["read", "operate", "admin"]);
export type Scope = z.infer<typeof scopeSchema>;

/** `POST /v1/tokens` */
export const createTokenRequestSchema = z
  .strictObject({
    name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, "must be 1 to 64 of [A-Za-z0-9_.-]"),
    scope: scopeSchema.default("operate"),
    expiresInMs: z.number().int().min(1000).nullable().default(null),
  })
  .meta({ id: "CreateTokenRequest" });
export type CreateTokenRequest = z.input<typeof createTokenRequestSchema>;

/** A token; its value is shown once, when it is made. */
export const tokenSchema = z
  .object({
    id: objectIdSchema,
    name: z.string(),
    scope: scopeSchema,
    createdAt: instant,
    expiresAt: instant.nullable(),
    lastUsedAt: instant.nullable(),
    token: z.string().optional(),
  })
  .meta({ id: "Token" });
export type Token = z.infer<typeof tokenSchema>;
/** `GET /v1/tokens` */
export const tokenListSchema = z.object({ items: z.array(tokenSchema) }).meta({ id: "TokenList" });

/** `GET /v1/status` */
export const statusSchema = z
  .object({
    version: z.string(),
    pid: z.number(),
    startedAt: instant,
    url: z.string(),
    previewDomain: z.string(),
    dataDir: z.string(),
    driver: z.object({
      name: z.string(),
      privileged: z.boolean(),
      cgroups: z.string(),
      storagePool: z.string(),
      layers: z.array(
        z.object({ layer: z.string(), available: z.boolean(), reason: z.string().optional() }),
      ),
    }),
    sandboxes: z.record(sandboxStateSchema, z.number()),
    memory: z.object({
      totalBytes: z.number(),
      availableBytes: z.number(),
      reservedBytes: z.number(),
    }),
  })
  .meta({ id: "Status" });
export type Status = z.infer<typeof statusSchema>;

/** Events of `GET /v1/events`, resumable by `Last-Event-ID`. */
export const EVENT_TYPES = [
  "sandbox.created",
  "sandbox.state",
  "sandbox.updated",
  "sandbox.destroyed",
  "preview.changed",
  "preview.removed",
  "task.state",
  "start-command.exited",
] as const;
/** One event of `GET /v1/events`; `id` is what `Last-Event-ID` takes. */
export const daemonEventSchema = z
  .object({
    id: z.number().int(),
    at: instant,
    type: z.enum(EVENT_TYPES),
    sandboxId: z.string().nullable(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: "DaemonEvent" });
export type DaemonEvent = z.infer<typeof daemonEventSchema>;
