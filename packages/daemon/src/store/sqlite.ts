import { open } from "node:fs/promises";
import { DatabaseSync } from "node:sqlite";
import type { SQLInputValue, StatementSync } from "node:sqlite";
import { BelljarError } from "@belljar/protocol";
import { SqliteAdapter, SqliteDialect } from "kysely";
import type { CompiledQuery, SqliteDatabase, SqliteStatement } from "kysely";

const PRIVATE_MODE = 0o600;
const BUSY_TIMEOUT_MS = 5000;
const STATEMENTS_CACHED_MAX = 256;
/** Pages of 4 KiB in the write-ahead log before SQLite folds them into the file */
const WAL_PAGES_MAX = 4000;

/** One SQLite file, in the shape kysely's dialect wants and with statements kept compiled. */
export class SqliteFile implements SqliteDatabase {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, SqliteStatement>();

  constructor(path: string) {
    this.#database = new DatabaseSync(path, {
      timeout: BUSY_TIMEOUT_MS,
      enableForeignKeyConstraints: true,
    });
    this.#database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = ${WAL_PAGES_MAX};`,
    );
  }

  prepare(sql: string): SqliteStatement {
    const known = this.#statements.get(sql);
    if (known !== undefined) return known;
    const statement = adapt(guarded(() => this.#database.prepare(sql)));
    // Generated lists of values make endless different texts: the oldest makes room.
    const oldest = this.#statements.keys().next();
    if (this.#statements.size >= STATEMENTS_CACHED_MAX && oldest.done !== true) {
      this.#statements.delete(oldest.value);
    }
    this.#statements.set(sql, statement);
    return statement;
  }

  /** Runs all or none, in one turn of the event loop: nothing else can come between. */
  runAtomically(queries: readonly CompiledQuery[]): void {
    const only = queries.length === 1 ? queries[0] : undefined;
    if (only !== undefined) {
      this.prepare(only.sql).run(only.parameters);
      return;
    }
    this.prepare("begin immediate").run([]);
    try {
      for (const query of queries) this.prepare(query.sql).run(query.parameters);
      this.prepare("commit").run([]);
    } catch (error) {
      // A full disk may have rolled it back by itself.
      if (this.#database.isTransaction) this.prepare("rollback").run([]);
      throw error;
    }
  }

  close(): void {
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }
}

/** DDL of SQLite is transactional, which kysely's own adapter does not count on. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true;
  }
}

export class SqliteFileDialect extends SqliteDialect {
  constructor(file: SqliteFile) {
    super({ database: file });
  }

  override createAdapter(): SqliteAdapter {
    return new TransactionalAdapter();
  }
}

function adapt(statement: StatementSync): SqliteStatement {
  // The cast: kysely binds what the typed tables hold, which are texts, numbers and nulls.
  const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => guarded(() => statement.all(...values(parameters))),
    run: (parameters) => guarded(() => statement.run(...values(parameters))),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}

function guarded<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    throw asStorageError(error);
  }
}

/** Makes the file if it is missing, and takes every right of others to it: it holds secrets of sandboxes. */
export async function makePrivate(path: string): Promise<void> {
  await using file = await open(path, "a", PRIVATE_MODE);
  await file.chmod(PRIVATE_MODE);
}

const READ_ONLY = 8;
const INPUT_OUTPUT = 10;
const CORRUPT = 11;
const FULL = 13;
const CANNOT_OPEN = 14;
const NOT_A_DATABASE = 26;

/** SQLite's primary result code of an error, undefined for errors that are none of SQLite's. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errcode" in error)) return undefined;
  return typeof error.errcode === "number" ? error.errcode & 0xff : undefined;
}

const DISK_CODES: ReadonlySet<number> = new Set([
  READ_ONLY,
  INPUT_OUTPUT,
  CORRUPT,
  FULL,
  CANNOT_OPEN,
  NOT_A_DATABASE,
]);

/** The disk's failures as STORAGE_FAILED; everything else, a bug of ours, as it is. */
function asStorageError(error: unknown): unknown {
  const code = sqliteCode(error);
  if (code === undefined || !DISK_CODES.has(code)) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new BelljarError(
    "STORAGE_FAILED",
    `the store cannot be used: ${message}`,
    { sqliteCode: code },
    { cause: error },
  );
}
