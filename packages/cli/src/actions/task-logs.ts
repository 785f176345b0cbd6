import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { followTask, printTaskEvent } from "../task-view.ts";

/** The stream of a running task has no end; one that is silent for so long has given all it had */
const QUIET_MS = 300;

/** `belljar task logs` */
export async function taskLogs(context: Context, input: Input): Promise<number | void> {
  const client = await openClient(context);
  const task = await client.belljar.tasks.get(input.required("task"), { signal: context.signal });
  if (input.flag("follow")) return followTask(context, task);
  const quiet = new AbortController();
  const signal = AbortSignal.any([context.signal, quiet.signal]);
  const isRunning = task.info.state === "queued" || task.info.state === "running";
  let timer = isRunning ? setTimeout(() => quiet.abort(), QUIET_MS) : undefined;
  try {
    for await (const event of task.events({ signal })) {
      clearTimeout(timer);
      await printTaskEvent(context, event);
      if (isRunning) timer = setTimeout(() => quiet.abort(), QUIET_MS);
    }
  } catch (error) {
    if (!quiet.signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
  }
}
