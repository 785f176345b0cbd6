import type { CreateTaskRequest } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { followTask } from "../task-view.ts";

/** `belljar task run` */
export async function taskRun(context: Context, input: Input): Promise<number | void> {
  const client = await openClient(context);
  const sandbox = await client.sandbox(input.required("sandbox"), context.signal);
  const task = await context.output.progress("starting the task", () =>
    sandbox.tasks.create(requestOf(input), { signal: context.signal }),
  );
  if (!input.flag("detach")) {
    context.output.say(`task ${task.id}`);
    return followTask(context, task);
  }
  if (context.output.json) context.output.data(task.info);
  else context.output.line(task.id);
}

function requestOf(input: Input): CreateTaskRequest {
  const user = input.text("user");
  const cwd = input.text("cwd");
  const timeoutMs = input.number("timeout");
  return {
    command: input.texts("command"),
    ...(user === undefined ? {} : { user }),
    ...(cwd === undefined ? {} : { cwd }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(input.has("env") ? { env: input.pairs("env") } : {}),
    ...(input.has("metadata") ? { metadata: input.pairs("metadata") } : {}),
  };
}
