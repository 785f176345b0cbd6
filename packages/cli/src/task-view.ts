import type { Task, TaskEvent } from "@belljar/protocol";
import type { TaskHandle } from "@belljar/sdk";
import type { Context } from "./command.ts";
import { EXIT } from "./failure.ts";
import { exitCodeOf } from "./run-command.ts";
import { describeAge } from "./sandbox-view.ts";
import { formatDuration } from "./values/duration.ts";

/** A task as `name  value` lines. */
export function taskFacts(task: Task): [string, string][] {
  return [
    ["id", task.id],
    ["sandbox", task.sandboxId],
    ["state", describeState(task)],
    ["command", task.command.join(" ")],
    ["created", describeAge(task.createdAt)],
    ["took", task.durationMs === null ? "-" : formatDuration(task.durationMs)],
    ...Object.entries(task.metadata).map(([key, value]): [string, string] => [
      "metadata",
      `${key}=${value}`,
    ]),
  ];
}

/** `failed (exit code 2)` */
export function describeState(task: Task): string {
  if (task.failureReason === null || task.failureReason === task.state) return task.state;
  const reason =
    task.exitCode === null
      ? task.signal === null
        ? task.failureReason
        : `${task.failureReason} ${task.signal}`
      : `exit code ${task.exitCode}`;
  return `${task.state} (${reason}${task.errorMessage === null ? "" : `: ${task.errorMessage}`})`;
}

/** Prints a task's events as they come, until it is done, and returns the exit code that tells its end. */
export async function followTask(context: Context, task: TaskHandle): Promise<number> {
  for await (const event of task.events({ signal: context.signal }))
    await printTaskEvent(context, event);
  if (!context.output.json) context.output.say(`${task.id} ${describeState(task.info)}`);
  return taskExitCode(task.info);
}

/** One event: with `--json` as it is, otherwise the bytes that the task printed. */
export async function printTaskEvent(context: Context, event: TaskEvent): Promise<void> {
  if (context.output.json) context.output.data(event);
  else if (event.type === "stdout" || event.type === "stderr")
    await context.output.bytes(event.type, Buffer.from(event.text ?? ""));
  else if (event.type === "truncated") context.output.warn("the rest of the output is not kept");
}

/** The task's own exit code where it has one. */
export function taskExitCode(task: Task): number {
  if (task.state === "succeeded") return EXIT.ok;
  if (task.state === "queued" || task.state === "running") return EXIT.ok;
  const reason = task.failureReason === "timeout" ? "timeout" : "exited";
  return exitCodeOf({ exitCode: task.exitCode, signal: task.signal, reason }) || EXIT.failed;
}
