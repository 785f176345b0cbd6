import type { Kysely } from "kysely";
import type { Migration } from "kysely/migration";

/** Tables of the first release. */
export const initial: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await createSandboxes(db);
    await createPreviews(db);
    await createTasks(db);
    await createRest(db);
  },
};

async function createSandboxes(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("sandboxes")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("name", "text", (column) => column.unique())
    .addColumn("slot", "integer", (column) => column.notNull().unique())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("pending", "text")
    .addColumn("template", "text", (column) => column.notNull())
    .addColumn("level", "text", (column) => column.notNull())
    .addColumn("on_unsupported", "text", (column) => column.notNull())
    .addColumn("visibility", "text", (column) => column.notNull())
    .addColumn("metadata", "text", (column) => column.notNull())
    .addColumn("env", "text", (column) => column.notNull())
    .addColumn("limits", "text", (column) => column.notNull())
    .addColumn("timeouts", "text", (column) => column.notNull())
    .addColumn("start_command", "text")
    .addColumn("effective", "text", (column) => column.notNull())
    .addColumn("error", "text")
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addColumn("started_at_ms", "bigint")
    .addColumn("frozen_at_ms", "bigint")
    .addColumn("last_active_at_ms", "bigint", (column) => column.notNull())
    .addColumn("keep_alive_until_ms", "bigint")
    .addColumn("measured_memory_bytes", "bigint")
    .execute();
}

async function createPreviews(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("previews")
    .addColumn("sandbox_id", "text", (column) =>
      column.notNull().references("sandboxes.id").onDelete("cascade"),
    )
    .addColumn("port", "integer", (column) => column.notNull())
    .addColumn("visibility", "text", (column) => column.notNull())
    .addColumn("rewrite_host", "integer", (column) => column.notNull())
    .addPrimaryKeyConstraint("previews_key", ["sandbox_id", "port"])
    .execute();
  await db.schema
    .createTable("preview_grants")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("sandbox_id", "text", (column) =>
      column.notNull().references("sandboxes.id").onDelete("cascade"),
    )
    .addColumn("port", "integer")
    .addColumn("kind", "text", (column) => column.notNull())
    .addColumn("token_hash", "text", (column) => column.notNull().unique())
    .addColumn("parent_id", "text")
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addColumn("expires_at_ms", "bigint", (column) => column.notNull())
    .addColumn("used_at_ms", "bigint")
    .addColumn("revoked_at_ms", "bigint")
    .execute();
  await db.schema
    .createIndex("preview_grants_sandbox")
    .on("preview_grants")
    .column("sandbox_id")
    .execute();
  await db.schema
    .createIndex("preview_grants_expiry")
    .on("preview_grants")
    .column("expires_at_ms")
    .execute();
}

/** A task names its sandbox without a reference: its result outlives the sandbox. */
async function createTasks(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("tasks")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("sandbox_id", "text", (column) => column.notNull())
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("command", "text", (column) => column.notNull())
    .addColumn("cwd", "text")
    .addColumn("user_name", "text")
    .addColumn("env", "text", (column) => column.notNull())
    .addColumn("metadata", "text", (column) => column.notNull())
    .addColumn("timeout_ms", "bigint", (column) => column.notNull())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addColumn("started_at_ms", "bigint")
    .addColumn("finished_at_ms", "bigint")
    .addColumn("exit_code", "integer")
    .addColumn("signal", "text")
    .addColumn("failure_reason", "text")
    .addColumn("error_message", "text")
    .addColumn("stdout_tail", "text", (column) => column.notNull())
    .addColumn("stderr_tail", "text", (column) => column.notNull())
    .addColumn("stdout_bytes", "bigint", (column) => column.notNull())
    .addColumn("stderr_bytes", "bigint", (column) => column.notNull())
    .addColumn("is_cancel_asked", "integer", (column) => column.notNull())
    .execute();
  await db.schema
    .createIndex("tasks_sandbox")
    .on("tasks")
    .columns(["sandbox_id", "created_at_ms"])
    .execute();
  await db.schema
    .createIndex("tasks_created")
    .on("tasks")
    .columns(["created_at_ms", "id"])
    .execute();
  await db.schema
    .createTable("task_events")
    .addColumn("task_id", "text", (column) =>
      column.notNull().references("tasks.id").onDelete("cascade"),
    )
    .addColumn("sequence", "integer", (column) => column.notNull())
    .addColumn("at_ms", "bigint", (column) => column.notNull())
    .addColumn("type", "text", (column) => column.notNull())
    .addColumn("body", "text", (column) => column.notNull())
    .addPrimaryKeyConstraint("task_events_key", ["task_id", "sequence"])
    .execute();
}

async function createRest(db: Kysely<unknown>): Promise<void> {
  await db.schema
    .createTable("tokens")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("scope", "text", (column) => column.notNull())
    .addColumn("hash", "text", (column) => column.notNull().unique())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addColumn("expires_at_ms", "bigint")
    .addColumn("last_used_at_ms", "bigint")
    .execute();
  await db.schema
    .createTable("events")
    .addColumn("id", "integer", (column) => column.primaryKey())
    .addColumn("at_ms", "bigint", (column) => column.notNull())
    .addColumn("type", "text", (column) => column.notNull())
    .addColumn("sandbox_id", "text")
    .addColumn("body", "text", (column) => column.notNull())
    .execute();
  await db.schema
    .createTable("idempotency_keys")
    .addColumn("owner", "text", (column) => column.notNull())
    .addColumn("key", "text", (column) => column.notNull())
    .addColumn("request_hash", "text", (column) => column.notNull())
    .addColumn("object_id", "text", (column) => column.notNull())
    .addColumn("created_at_ms", "bigint", (column) => column.notNull())
    .addPrimaryKeyConstraint("idempotency_keys_key", ["owner", "key"])
    .execute();
  await db.schema
    .createTable("settings")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("value", "text", (column) => column.notNull())
    .execute();
}
