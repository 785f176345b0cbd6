import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { taskFacts } from "../task-view.ts";

/** `belljar task get` */
export async function taskGet(context: Context, input: Input): Promise<void> {
  const client = await openClient(context);
  const task = await client.belljar.tasks.get(input.required("task"), { signal: context.signal });
  if (context.output.json) context.output.data(task.info);
  else context.output.facts(taskFacts(task.info));
}
