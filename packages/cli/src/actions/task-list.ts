import type { Task } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { describeAge } from "../sandbox-view.ts";
import { describeState } from "../task-view.ts";
import { formatDuration } from "../values/duration.ts";

const PAGE_SIZE_MAX = 1000;

/** `belljar task ls` */
export async function taskList(context: Context, input: Input): Promise<void> {
  const { output } = context;
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const limit = input.number("limit") ?? Number.POSITIVE_INFINITY;
  const found: Task[] = [];
  if (limit > 0) {
    for await (const task of sandbox.tasks.list({
      pageSize: Math.min(limit, PAGE_SIZE_MAX),
      signal: context.signal,
    })) {
      found.push(task);
      if (found.length >= limit) break;
    }
  }
  if (output.json) return output.data({ items: found, nextCursor: null });
  if (input.flag("quiet")) return found.forEach((task) => output.line(task.id));
  if (found.length === 0) return output.say("no tasks; start one with `belljar task run`");
  const columns = [
    { title: "ID" },
    { title: "STATE", shrink: true },
    { title: "COMMAND", shrink: true },
    { title: "TOOK" },
    { title: "CREATED" },
  ];
  output.table(columns, found.map(rowOf));
}

function rowOf(task: Task): string[] {
  const took = task.durationMs === null ? "-" : formatDuration(task.durationMs);
  return [task.id, describeState(task), task.command.join(" "), took, describeAge(task.createdAt)];
}
