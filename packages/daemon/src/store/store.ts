import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { Kysely } from "kysely";
import type { CompiledQuery } from "kysely";
import { Migrator } from "kysely/migration";
import { invariant } from "../kernel/index.ts";
import type { HostPath } from "../kernel/index.ts";
import { EventTable } from "./event-table.ts";
import { GrantTable } from "./grant-table.ts";
import { IdempotencyTable } from "./idempotency-table.ts";
import { MIGRATIONS } from "./migrations/index.ts";
import { PreviewTable } from "./preview-table.ts";
import { SandboxTable } from "./sandbox-table.ts";
import type { Schema } from "./schema.ts";
import { SettingTable } from "./setting-table.ts";
import { makePrivate, SqliteFile, SqliteFileDialect } from "./sqlite.ts";
import { TaskEventTable } from "./task-event-table.ts";
import { TaskTable } from "./task-table.ts";
import { TokenTable } from "./token-table.ts";

/** One statement that `Store.write` runs with others, all or none. Made by the tables' `…Step` methods. */
export interface WriteStep {
  compile(): CompiledQuery;
}

/** Everything that is kept. */
export interface Store extends AsyncDisposable {
  readonly sandboxes: SandboxTable;
  readonly previews: PreviewTable;
  readonly grants: GrantTable;
  readonly tokens: TokenTable;
  readonly tasks: TaskTable;
  readonly taskEvents: TaskEventTable;
  readonly events: EventTable;
  readonly idempotency: IdempotencyTable;
  readonly settings: SettingTable;
  /** All steps or none, in their order. STORAGE_FAILED when the disk is full, read-only or failing. */
  write(steps: readonly WriteStep[]): Promise<void>;
}

const DATABASE_FILE = "belljar.db";

/**
 * Opens the store below `dataDir`, making both if they are missing, and brings its tables up to date.
 * DATA_DIR_UNUSABLE when it cannot be written or belongs to a newer Belljar.
 */
export async function openStore(options: { dataDir: HostPath }): Promise<Store> {
  const path = join(options.dataDir, DATABASE_FILE);
  let file: SqliteFile | undefined;
  try {
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 });
    await makePrivate(path);
    file = new SqliteFile(path);
    const db = new Kysely<Schema>({ dialect: new SqliteFileDialect(file) });
    await migrate(db);
    return assemble(db, file);
  } catch (error) {
    file?.close();
    throw unusable(path, error);
  }
}

/** A start-up failure as DATA_DIR_UNUSABLE with its cause in the message. */
export function unusable(path: string, error: unknown): unknown {
  if (BelljarError.is(error) && !BelljarError.is(error, "STORAGE_FAILED")) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new BelljarError(
    "DATA_DIR_UNUSABLE",
    `cannot use ${path}: ${reason}`,
    { path },
    { cause: error },
  );
}

async function migrate(db: Kysely<Schema>): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(MIGRATIONS) },
  });
  const { error } = await migrator.migrateToLatest();
  if (error instanceof Error) throw error;
  invariant(error === undefined, "a migration failed with something that is no error");
}

function assemble(db: Kysely<Schema>, file: SqliteFile): Store {
  return {
    sandboxes: new SandboxTable(db),
    previews: new PreviewTable(db),
    grants: new GrantTable(db),
    tokens: new TokenTable(db),
    tasks: new TaskTable(db),
    taskEvents: new TaskEventTable(db),
    events: new EventTable(db),
    idempotency: new IdempotencyTable(db),
    settings: new SettingTable(db),
    async write(steps) {
      file.runAtomically(steps.map((step) => step.compile()));
    },
    async [Symbol.asyncDispose]() {
      await db.destroy();
      file.close();
    },
  };
}
