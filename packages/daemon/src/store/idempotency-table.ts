import type { Kysely } from "kysely";
import type { Schema } from "./schema.ts";
import type { WriteStep } from "./store.ts";

/** That `owner` made `objectId` with the request of that hash under `key`. */
export interface IdempotencyEntry {
  readonly owner: string;
  readonly key: string;
  readonly requestHash: string;
  readonly objectId: string;
  readonly createdAtMs: number;
}

export class IdempotencyTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async find(owner: string, key: string): Promise<IdempotencyEntry | undefined> {
    const row = await this.#db
      .selectFrom("idempotency_keys")
      .selectAll()
      .where("owner", "=", owner)
      .where("key", "=", key)
      .executeTakeFirst();
    if (row === undefined) return undefined;
    return {
      owner: row.owner,
      key: row.key,
      requestHash: row.request_hash,
      objectId: row.object_id,
      createdAtMs: row.created_at_ms,
    };
  }

  insertStep(entry: IdempotencyEntry): WriteStep {
    return this.#db.insertInto("idempotency_keys").values({
      owner: entry.owner,
      key: entry.key,
      request_hash: entry.requestHash,
      object_id: entry.objectId,
      created_at_ms: entry.createdAtMs,
    });
  }

  removeStep(owner: string, key: string): WriteStep {
    return this.#db
      .deleteFrom("idempotency_keys")
      .where("owner", "=", owner)
      .where("key", "=", key);
  }

  /** Forgets keys used before `beforeMs`. */
  async removeOlder(beforeMs: number): Promise<void> {
    await this.#db.deleteFrom("idempotency_keys").where("created_at_ms", "<", beforeMs).execute();
  }
}
