import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { describeState } from "../task-view.ts";

/** `belljar task cancel` */
export async function taskCancel(context: Context, input: Input): Promise<void> {
  const client = await openClient(context);
  const task = await client.belljar.tasks.get(input.required("task"), { signal: context.signal });
  const info = await context.output.progress("cancelling", () =>
    task.cancel({ signal: context.signal }),
  );
  if (context.output.json) context.output.data(info);
  else context.output.say(`${info.id} ${describeState(info)}`);
}
