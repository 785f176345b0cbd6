import { z } from "zod";
import {
  envSchema,
  instant,
  metadataSchema,
  nameSchema,
  pageOf,
  pageQuerySchema,
  portSchema,
  sandboxIdSchema,
  sandboxPathSchema,
  userSchema,
} from "./common.ts";
import { previewSchema, visibilitySchema } from "./previews.ts";

/**
 * States of a sandbox. `frozen` keeps memory and costs no CPU; `stopped` keeps the workspace;
 * `error` says why in the sandbox's `error`.
 */
export const sandboxStateSchema = z.enum([
  "creating",
  "running",
  "frozen",
  "stopped",
  "archived",
  "error",
  "destroyed",
]);
export type SandboxState = z.infer<typeof sandboxStateSchema>;

/** How tight the seal is. */
export const levelSchema = z.enum(["off", "standard", "strict", "maximum"]);
export type Level = z.infer<typeof levelSchema>;

/** What a layer or limit that cannot be had does to a create. */
export const onUnsupportedSchema = z.enum(["refuse", "degrade"]);

const MIB = 1024 * 1024;

/** Limits of one sandbox, as asked for; what is left out gets the daemon's default. */
export const limitsRequestSchema = z.strictObject({
  /** Memory, tmpfs included */
  memoryBytes: z
    .number()
    .int()
    .min(16 * MIB)
    .optional(),
  /** CPUs, fractions allowed */
  cpuCount: z.number().min(0.05).max(1024).optional(),
  /** Processes and threads */
  processCountMax: z.number().int().min(8).max(1_000_000).optional(),
  /** Open files of one process */
  openFilesMax: z.number().int().min(64).max(1_048_576).optional(),
  /** Bytes of the workspace; null asks for none */
  diskBytes: z
    .number()
    .int()
    .min(16 * MIB)
    .nullable()
    .optional(),
});
export type LimitsRequest = z.infer<typeof limitsRequestSchema>;

/** Limits in force. */
export const limitsSchema = z.object({
  memoryBytes: z.number(),
  cpuCount: z.number(),
  processCountMax: z.number(),
  openFilesMax: z.number(),
  diskBytes: z.number().nullable(),
});
export type Limits = z.infer<typeof limitsSchema>;

const durationMs = z
  .number()
  .int()
  .min(1000)
  .max(10 * 365 * 24 * 3600 * 1000);
/** What happens to a sandbox when a timeout comes. */
export const endActionSchema = z.enum(["freeze", "stop", "destroy"]);
export type EndAction = z.infer<typeof endActionSchema>;

/** When a sandbox rests or ends. `null` means never. */
export const timeoutsSchema = z.strictObject({
  /** Time without activity, in milliseconds, until `onIdle` */
  idleMs: durationMs.nullable(),
  onIdle: endActionSchema,
  /** Time frozen, in milliseconds, until the sandbox is stopped */
  frozenMs: durationMs.nullable(),
  /** Life since the last start, in milliseconds, until `onLifeEnd` */
  lifeMs: durationMs.nullable(),
  onLifeEnd: endActionSchema,
});
export type Timeouts = z.infer<typeof timeoutsSchema>;

/** A command that runs whenever the sandbox starts, such as a dev server. */
export const startCommandSchema = z.strictObject({
  command: z
    .array(
      z
        .string()
        .min(1)
        .refine((text) => !text.includes("\0"), "must not contain NUL"),
    )
    .min(1)
    .max(4096),
  cwd: sandboxPathSchema.optional(),
  user: userSchema.optional(),
  env: envSchema.optional(),
});
export type StartCommand = z.infer<typeof startCommandSchema>;

/** One port to open as a preview. */
export const portRequestSchema = z.strictObject({
  port: portSchema,
  visibility: visibilitySchema.optional(),
  rewriteHost: z.boolean().optional(),
});

/** `POST /v1/sandboxes` */
export const createSandboxRequestSchema = z
  .strictObject({
    name: nameSchema.optional(),
    template: nameSchema.default("host"),
    level: levelSchema.default("standard"),
    onUnsupported: onUnsupportedSchema.default("refuse"),
    /** Environment of every command in the sandbox */
    env: envSchema.default({}),
    /** Previews to open: ports, or ports with options */
    ports: z
      .array(z.union([portSchema, portRequestSchema]))
      .max(32)
      .default([]),
    /** Visibility of previews that name none */
    visibility: visibilitySchema.default("private"),
    limits: limitsRequestSchema.default({}),
    timeouts: timeoutsSchema.partial().default({}),
    metadata: metadataSchema.default({}),
    start: startCommandSchema.optional(),
  })
  .meta({ id: "CreateSandboxRequest" });
export type CreateSandboxRequest = z.input<typeof createSandboxRequestSchema>;
export type CreateSandboxInput = z.output<typeof createSandboxRequestSchema>;

/** `PATCH /v1/sandboxes/{id}` */
export const updateSandboxRequestSchema = z
  .strictObject({
    name: nameSchema.nullable().optional(),
    metadata: metadataSchema.optional(),
    timeouts: timeoutsSchema.partial().optional(),
  })
  .meta({ id: "UpdateSandboxRequest" });
export type UpdateSandboxRequest = z.infer<typeof updateSandboxRequestSchema>;

/** One layer of the seal: what was asked, whether it holds, and why not. */
export const effectiveLayerSchema = z.object({
  layer: z.string(),
  asked: z.boolean(),
  inForce: z.boolean(),
  reason: z.string().optional(),
});
export type EffectiveLayer = z.infer<typeof effectiveLayerSchema>;

/** A sandbox as the API shows it. */
export const sandboxSchema = z
  .object({
    id: sandboxIdSchema,
    name: z.string().nullable(),
    state: sandboxStateSchema,
    template: z.string(),
    level: levelSchema,
    metadata: z.record(z.string(), z.string()),
    limits: limitsSchema,
    timeouts: timeoutsSchema,
    start: startCommandSchema.nullable(),
    previews: z.array(previewSchema),
    createdAt: instant,
    startedAt: instant.nullable(),
    lastActiveAt: instant,
    keepAliveUntil: instant.nullable(),
    /** Why the state is `error` */
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    /** Each layer and limit as asked and in force; empty until the sandbox has started once */
    effective: z.array(effectiveLayerSchema),
  })
  .meta({ id: "Sandbox" });
export type Sandbox = z.infer<typeof sandboxSchema>;

/** A page of `GET /v1/sandboxes`. */
export const sandboxPageSchema = pageOf(sandboxSchema).meta({ id: "SandboxPage" });
export type SandboxPage = z.infer<typeof sandboxPageSchema>;

/** `GET /v1/sandboxes`: `metadata=key:value` may be given several times, all must match. */
export const listSandboxesQuerySchema = pageQuerySchema.extend({
  state: sandboxStateSchema.optional(),
  name: nameSchema.optional(),
  metadata: z.union([z.string(), z.array(z.string())]).optional(),
});

/** `POST /v1/sandboxes/{id}/keepalive`: no idle rest before this time has passed. */
export const keepAliveRequestSchema = z
  .strictObject({
    forMs: z
      .number()
      .int()
      .min(0)
      .max(24 * 3600 * 1000),
  })
  .meta({ id: "KeepAliveRequest" });

/** `GET /v1/sandboxes/{id}/usage` */
export const usageSchema = z
  .object({
    memoryBytes: z.number(),
    cpuTimeMs: z.number(),
    processCount: z.number(),
    oomKillCount: z.number(),
    diskUsedBytes: z.number().nullable(),
  })
  .meta({ id: "Usage" });
export type Usage = z.infer<typeof usageSchema>;

/** A template as the API shows it. */
export const templateSchema = z
  .object({
    name: z.string(),
    description: z.string(),
    defaultUser: z.string(),
    workdir: z.string(),
  })
  .meta({ id: "Template" });
export type Template = z.infer<typeof templateSchema>;
/** A page of `GET /v1/templates`. */
export const templatePageSchema = pageOf(templateSchema).meta({ id: "TemplatePage" });
