import { scopeSchema } from "@belljar/protocol";
import type { Scope } from "@belljar/protocol";
import type { Kysely } from "kysely";
import { readText } from "./json-column.ts";
import type { Schema, TokenColumns } from "./schema.ts";

/** One API token as it is kept: never its value. */
export interface TokenEntry {
  readonly id: string;
  readonly name: string;
  readonly scope: Scope;
  /** SHA-256 of the token, in hex */
  readonly hash: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | null;
  readonly lastUsedAtMs: number | null;
}

export class TokenTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async all(): Promise<TokenEntry[]> {
    const rows = await this.#db.selectFrom("tokens").selectAll().orderBy("created_at_ms").execute();
    return rows.map(fromColumns);
  }

  async insert(token: TokenEntry): Promise<void> {
    await this.#db
      .insertInto("tokens")
      .values({
        id: token.id,
        name: token.name,
        scope: token.scope,
        hash: token.hash,
        created_at_ms: token.createdAtMs,
        expires_at_ms: token.expiresAtMs,
        last_used_at_ms: token.lastUsedAtMs,
      })
      .execute();
  }

  async markUsed(id: string, atMs: number): Promise<void> {
    await this.#db
      .updateTable("tokens")
      .set({ last_used_at_ms: atMs })
      .where("id", "=", id)
      .execute();
  }

  /** False for an unknown id. */
  async remove(id: string): Promise<boolean> {
    const result = await this.#db.deleteFrom("tokens").where("id", "=", id).executeTakeFirst();
    return result.numDeletedRows > 0n;
  }
}

function fromColumns(row: TokenColumns): TokenEntry {
  return {
    id: row.id,
    name: row.name,
    scope: readText(scopeSchema, row.scope, "tokens.scope"),
    hash: row.hash,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    lastUsedAtMs: row.last_used_at_ms,
  };
}
