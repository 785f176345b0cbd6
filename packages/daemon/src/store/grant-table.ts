import type { Kysely } from "kysely";
import { z } from "zod";
import { readText } from "./json-column.ts";
import type { GrantColumns, Schema } from "./schema.ts";

const kindSchema = z.enum(["link", "code", "session"]);
export type GrantKind = z.infer<typeof kindSchema>;

/** A right to see previews: a link, a code that works once, or the session made from either. */
export interface GrantEntry {
  readonly id: string;
  readonly sandboxId: string;
  /** Null for every port of the sandbox */
  readonly port: number | null;
  readonly kind: GrantKind;
  /** SHA-256 of the token, in hex */
  readonly tokenHash: string;
  /** The link or code that a session came from */
  readonly parentId: string | null;
  readonly createdAtMs: number;
  readonly expiresAtMs: number;
  readonly usedAtMs: number | null;
  readonly revokedAtMs: number | null;
}

export class GrantTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async insert(grant: GrantEntry): Promise<void> {
    await this.#db
      .insertInto("preview_grants")
      .values({
        id: grant.id,
        sandbox_id: grant.sandboxId,
        port: grant.port,
        kind: grant.kind,
        token_hash: grant.tokenHash,
        parent_id: grant.parentId,
        created_at_ms: grant.createdAtMs,
        expires_at_ms: grant.expiresAtMs,
        used_at_ms: grant.usedAtMs,
        revoked_at_ms: grant.revokedAtMs,
      })
      .execute();
  }

  async findByHash(tokenHash: string): Promise<GrantEntry | undefined> {
    const row = await this.#db
      .selectFrom("preview_grants")
      .selectAll()
      .where("token_hash", "=", tokenHash)
      .executeTakeFirst();
    return row === undefined ? undefined : fromColumns(row);
  }

  async findById(id: string): Promise<GrantEntry | undefined> {
    const row = await this.#db
      .selectFrom("preview_grants")
      .selectAll()
      .where("id", "=", id)
      .executeTakeFirst();
    return row === undefined ? undefined : fromColumns(row);
  }

  /** Marks it used; false when it was used, revoked or gone: of two at once exactly one gets true. */
  async consume(id: string, usedAtMs: number): Promise<boolean> {
    const result = await this.#db
      .updateTable("preview_grants")
      .set({ used_at_ms: usedAtMs })
      .where("id", "=", id)
      .where("used_at_ms", "is", null)
      .where("revoked_at_ms", "is", null)
      .executeTakeFirst();
    return result.numUpdatedRows === 1n;
  }

  /** Revokes it and every session that came from it; false for an unknown id. */
  async revoke(id: string, revokedAtMs: number): Promise<boolean> {
    const result = await this.#db
      .updateTable("preview_grants")
      .set({ revoked_at_ms: revokedAtMs })
      .where((where) => where.or([where("id", "=", id), where("parent_id", "=", id)]))
      .where("revoked_at_ms", "is", null)
      .executeTakeFirst();
    return result.numUpdatedRows > 0n;
  }

  async list(sandboxId: string): Promise<GrantEntry[]> {
    const rows = await this.#db
      .selectFrom("preview_grants")
      .selectAll()
      .where("sandbox_id", "=", sandboxId)
      .orderBy("created_at_ms")
      .execute();
    return rows.map(fromColumns);
  }

  /** Forgets what ended before `beforeMs`. */
  async removeExpired(beforeMs: number): Promise<void> {
    await this.#db.deleteFrom("preview_grants").where("expires_at_ms", "<", beforeMs).execute();
  }
}

function fromColumns(row: GrantColumns): GrantEntry {
  return {
    id: row.id,
    sandboxId: row.sandbox_id,
    port: row.port,
    kind: readText(kindSchema, row.kind, "preview_grants.kind"),
    tokenHash: row.token_hash,
    parentId: row.parent_id,
    createdAtMs: row.created_at_ms,
    expiresAtMs: row.expires_at_ms,
    usedAtMs: row.used_at_ms,
    revokedAtMs: row.revoked_at_ms,
  };
}
