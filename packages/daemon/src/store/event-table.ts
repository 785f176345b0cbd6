import { EVENT_TYPES } from "@belljar/protocol";
import type { DaemonEvent } from "@belljar/protocol";
import type { Kysely } from "kysely";
import { z } from "zod";
import { readJson, readText } from "./json-column.ts";
import type { Schema } from "./schema.ts";
import type { WriteStep } from "./store.ts";

const typeSchema = z.enum(EVENT_TYPES);
const bodySchema = z.record(z.string(), z.unknown());

/** One event as it is kept. */
export interface EventEntry {
  readonly id: number;
  readonly atMs: number;
  readonly type: DaemonEvent["type"];
  readonly sandboxId: string | null;
  readonly data: Readonly<Record<string, unknown>>;
}

export class EventTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async newestId(): Promise<number> {
    const row = await this.#db
      .selectFrom("events")
      .select((select) => select.fn.max("id").as("newest"))
      .executeTakeFirst();
    return row?.newest ?? 0;
  }

  async since(
    sinceId: number,
    options: { sandboxId?: string; limit: number },
  ): Promise<EventEntry[]> {
    let query = this.#db.selectFrom("events").selectAll().where("id", ">", sinceId);
    if (options.sandboxId !== undefined) query = query.where("sandbox_id", "=", options.sandboxId);
    const rows = await query.orderBy("id").limit(options.limit).execute();
    return rows.map((row) => ({
      id: row.id,
      atMs: row.at_ms,
      type: readText(typeSchema, row.type, "events.type"),
      sandboxId: row.sandbox_id,
      data: readJson(bodySchema, row.body, "events.body"),
    }));
  }

  insertStep(event: EventEntry): WriteStep {
    return this.#db.insertInto("events").values({
      id: event.id,
      at_ms: event.atMs,
      type: event.type,
      sandbox_id: event.sandboxId,
      body: JSON.stringify(event.data),
    });
  }

  /** Forgets every event with an id up to `lastId`. */
  async removeUpTo(lastId: number): Promise<void> {
    await this.#db.deleteFrom("events").where("id", "<=", lastId).execute();
  }
}
