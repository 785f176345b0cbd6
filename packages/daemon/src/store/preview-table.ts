import { visibilitySchema } from "@belljar/protocol";
import type { Visibility } from "@belljar/protocol";
import type { Kysely } from "kysely";
import type { SandboxId } from "../kernel/index.ts";
import { readText } from "./json-column.ts";
import type { Schema } from "./schema.ts";
import type { WriteStep } from "./store.ts";

/** One exposed port as it is kept. */
export interface PreviewRow {
  readonly sandboxId: string;
  readonly port: number;
  readonly visibility: Visibility;
  readonly rewriteHost: boolean;
}

export class PreviewTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async all(): Promise<PreviewRow[]> {
    const rows = await this.#db.selectFrom("previews").selectAll().orderBy("port").execute();
    return rows.map((row) => ({
      sandboxId: row.sandbox_id,
      port: row.port,
      visibility: readText(visibilitySchema, row.visibility, "previews.visibility"),
      rewriteHost: row.rewrite_host !== 0,
    }));
  }

  putStep(row: PreviewRow): WriteStep {
    const rest = { visibility: row.visibility, rewrite_host: row.rewriteHost ? 1 : 0 };
    return this.#db
      .insertInto("previews")
      .values({ sandbox_id: row.sandboxId, port: row.port, ...rest })
      .onConflict((conflict) => conflict.columns(["sandbox_id", "port"]).doUpdateSet(rest));
  }

  removeStep(sandboxId: SandboxId, port: number): WriteStep {
    return this.#db
      .deleteFrom("previews")
      .where("sandbox_id", "=", sandboxId)
      .where("port", "=", port);
  }
}
