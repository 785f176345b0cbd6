import { taskStateSchema } from "@belljar/protocol";
import type { TaskEvent } from "@belljar/protocol";
import type { Kysely } from "kysely";
import { z } from "zod";
import { readJson, readText } from "./json-column.ts";
import type { Schema } from "./schema.ts";
import type { WriteStep } from "./store.ts";

const typeSchema = z.enum(["state", "stdout", "stderr", "truncated", "done"]);
const bodySchema = z.object({ state: taskStateSchema.optional(), text: z.string().optional() });

/** One event of a task as it is kept; sequences of a task start at 1 and have no holes. */
export interface TaskEventEntry {
  readonly taskId: string;
  readonly sequence: number;
  readonly atMs: number;
  readonly type: TaskEvent["type"];
  readonly state?: TaskEvent["state"];
  readonly text?: string;
}

export class TaskEventTable {
  readonly #db: Kysely<Schema>;

  constructor(db: Kysely<Schema>) {
    this.#db = db;
  }

  async since(taskId: string, sinceSequence: number, limit: number): Promise<TaskEventEntry[]> {
    const rows = await this.#db
      .selectFrom("task_events")
      .selectAll()
      .where("task_id", "=", taskId)
      .where("sequence", ">", sinceSequence)
      .orderBy("sequence")
      .limit(limit)
      .execute();
    return rows.map((row) => {
      const { state, text } = readJson(bodySchema, row.body, "task_events.body");
      return {
        taskId: row.task_id,
        sequence: row.sequence,
        atMs: row.at_ms,
        type: readText(typeSchema, row.type, "task_events.type"),
        ...(state === undefined ? {} : { state }),
        ...(text === undefined ? {} : { text }),
      };
    });
  }

  /** The text of the newest events of one stream, at most `eventCount` of them, in their order. */
  async tail(taskId: string, stream: "stdout" | "stderr", eventCount: number): Promise<string> {
    const rows = await this.#db
      .selectFrom("task_events")
      .select("body")
      .where("task_id", "=", taskId)
      .where("type", "=", stream)
      .orderBy("sequence", "desc")
      .limit(eventCount)
      .execute();
    const texts = rows.map((row) => readJson(bodySchema, row.body, "task_events.body").text ?? "");
    return texts.toReversed().join("");
  }

  async newestSequence(taskId: string): Promise<number> {
    const row = await this.#db
      .selectFrom("task_events")
      .select((select) => select.fn.max("sequence").as("newest"))
      .where("task_id", "=", taskId)
      .executeTakeFirst();
    return row?.newest ?? 0;
  }

  insertStep(event: TaskEventEntry): WriteStep {
    return this.#db.insertInto("task_events").values({
      task_id: event.taskId,
      sequence: event.sequence,
      at_ms: event.atMs,
      type: event.type,
      body: JSON.stringify({ state: event.state, text: event.text }),
    });
  }
}
