import {
  effectiveLayerSchema,
  envSchema,
  levelSchema,
  limitsSchema,
  onUnsupportedSchema,
  sandboxStateSchema,
  startCommandSchema,
  timeoutsSchema,
  visibilitySchema,
} from "@belljar/protocol";
import type {
  EffectiveLayer,
  Level,
  Limits,
  SandboxState,
  StartCommand,
  Timeouts,
  Visibility,
} from "@belljar/protocol";
import type { Kysely } from "kysely";
import { z } from "zod";
import { parseSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { readJson, readText } from "./json-column.ts";
import type { SandboxColumns, Schema } from "./schema.ts";
import type { WriteStep } from "./store.ts";

const pendingSchema = z.enum(["start", "thaw", "freeze", "stop", "destroy", "destroy-keep"]);
/** What was begun and not yet finished; a crash leaves it for the reconciler */
export type PendingTransition = z.infer<typeof pendingSchema>;

const metadataSchema = z.record(z.string(), z.string());
const layersSchema = z.array(effectiveLayerSchema);
const errorSchema = z.object({ code: z.string(), message: z.string() });

/** One sandbox as it is kept. */
export interface SandboxRow {
  readonly id: SandboxId;
  readonly name: string | null;
  /** Number of its user-id range; its own until row and workspace are gone */
  readonly slot: number;
  readonly state: SandboxState;
  readonly pending: PendingTransition | null;
  readonly template: string;
  readonly level: Level;
  readonly onUnsupported: "refuse" | "degrade";
  /** Of previews that name none */
  readonly visibility: Visibility;
  readonly metadata: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string>>;
  readonly limits: Limits;
  readonly timeouts: Timeouts;
  readonly start: StartCommand | null;
  readonly effective: readonly EffectiveLayer[];
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly createdAtMs: number;
  readonly startedAtMs: number | null;
  readonly frozenAtMs: number | null;
  readonly lastActiveAtMs: number;
  readonly keepAliveUntilMs: number | null;
  /** Memory it used when it was last measured before resting */
  readonly measuredMemoryBytes: number | null;
}

export class SandboxTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  /** Every row, oldest first; those that cannot be read are handed to `damaged` and left out. */
  async all(damaged: (id: string, error: unknown) => void): Promise<SandboxRow[]> {
    const rows = await this.#db
      .selectFrom("sandboxes")
      .selectAll()
      .orderBy("created_at_ms")
      .orderBy("id")
      .execute();
    const read: SandboxRow[] = [];
    for (const row of rows) {
      try {
        read.push(fromColumns(row));
      } catch (error) {
        damaged(row.id, error);
      }
    }
    return read;
  }

  insertStep(row: SandboxRow): WriteStep {
    return this.#db.insertInto("sandboxes").values({ id: row.id, ...toColumns(row) });
  }

  patchStep(
    id: SandboxId,
    patch: Partial<Omit<SandboxRow, "id" | "slot" | "createdAtMs">>,
  ): WriteStep {
    return this.#db.updateTable("sandboxes").set(patchColumns(patch)).where("id", "=", id);
  }

  removeStep(id: SandboxId): WriteStep {
    return this.#db.deleteFrom("sandboxes").where("id", "=", id);
  }
}

function fromColumns(row: SandboxColumns): SandboxRow {
  const id = parseSandboxId(row.id);
  const nullable = <Schema extends z.ZodType>(
    schema: Schema,
    text: string | null,
    column: string,
  ) => (text === null ? null : readJson(schema, text, column));
  if (id === undefined) readText(z.never(), row.id, "sandboxes.id");
  return {
    id: id as SandboxId,
    name: row.name,
    slot: row.slot,
    state: readText(sandboxStateSchema, row.state, "sandboxes.state"),
    pending:
      row.pending === null ? null : readText(pendingSchema, row.pending, "sandboxes.pending"),
    template: row.template,
    level: readText(levelSchema, row.level, "sandboxes.level"),
    onUnsupported: readText(onUnsupportedSchema, row.on_unsupported, "sandboxes.on_unsupported"),
    visibility: readText(visibilitySchema, row.visibility, "sandboxes.visibility"),
    metadata: readJson(metadataSchema, row.metadata, "sandboxes.metadata"),
    env: readJson(envSchema, row.env, "sandboxes.env"),
    limits: readJson(limitsSchema, row.limits, "sandboxes.limits"),
    timeouts: readJson(timeoutsSchema, row.timeouts, "sandboxes.timeouts"),
    start: nullable(startCommandSchema, row.start_command, "sandboxes.start_command"),
    effective: readJson(layersSchema, row.effective, "sandboxes.effective"),
    error: nullable(errorSchema, row.error, "sandboxes.error"),
    createdAtMs: row.created_at_ms,
    startedAtMs: row.started_at_ms,
    frozenAtMs: row.frozen_at_ms,
    lastActiveAtMs: row.last_active_at_ms,
    keepAliveUntilMs: row.keep_alive_until_ms,
    measuredMemoryBytes: row.measured_memory_bytes,
  };
}

function toColumns(row: Omit<SandboxRow, "id">): Omit<SandboxColumns, "id"> {
  return {
    name: row.name,
    slot: row.slot,
    state: row.state,
    pending: row.pending,
    template: row.template,
    level: row.level,
    on_unsupported: row.onUnsupported,
    visibility: row.visibility,
    metadata: JSON.stringify(row.metadata),
    env: JSON.stringify(row.env),
    limits: JSON.stringify(row.limits),
    timeouts: JSON.stringify(row.timeouts),
    start_command: row.start === null ? null : JSON.stringify(row.start),
    effective: JSON.stringify(row.effective),
    error: row.error === null ? null : JSON.stringify(row.error),
    created_at_ms: row.createdAtMs,
    started_at_ms: row.startedAtMs,
    frozen_at_ms: row.frozenAtMs,
    last_active_at_ms: row.lastActiveAtMs,
    keep_alive_until_ms: row.keepAliveUntilMs,
    measured_memory_bytes: row.measuredMemoryBytes,
  };
}

const PLAIN_COLUMNS = {
  name: "name",
  state: "state",
  pending: "pending",
  startedAtMs: "started_at_ms",
  frozenAtMs: "frozen_at_ms",
  lastActiveAtMs: "last_active_at_ms",
  keepAliveUntilMs: "keep_alive_until_ms",
  measuredMemoryBytes: "measured_memory_bytes",
} as const;

const JSON_COLUMNS = {
  metadata: "metadata",
  timeouts: "timeouts",
  limits: "limits",
  effective: "effective",
  error: "error",
} as const;

/** Only what the patch names, so that a row's large columns are not written again at each transition. */
function patchColumns(patch: Partial<SandboxRow>): Partial<SandboxColumns> {
  const columns: Record<string, string | number | null> = {};
  for (const [field, column] of Object.entries(PLAIN_COLUMNS)) {
    const value = patch[field as keyof typeof PLAIN_COLUMNS];
    if (value !== undefined) columns[column] = value;
  }
  for (const [field, column] of Object.entries(JSON_COLUMNS)) {
    const value = patch[field as keyof typeof JSON_COLUMNS];
    if (value !== undefined) columns[column] = value === null ? null : JSON.stringify(value);
  }
  return columns as Partial<SandboxColumns>;
}
