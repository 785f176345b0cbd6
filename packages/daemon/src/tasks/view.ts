import type { Task, TaskEvent } from "@belljar/protocol";
import type { TaskEntry, TaskEventEntry } from "../store/index.ts";

/** A task as the API shows it. */
export function viewTask(task: TaskEntry): Task {
  const endMs = task.finishedAtMs;
  return {
    id: task.id,
    sandboxId: task.sandboxId,
    state: task.state,
    command: [...task.command],
    metadata: { ...task.metadata },
    createdAt: instant(task.createdAtMs),
    startedAt: task.startedAtMs === null ? null : instant(task.startedAtMs),
    finishedAt: endMs === null ? null : instant(endMs),
    timeoutMs: task.timeoutMs,
    exitCode: task.exitCode,
    signal: task.signal,
    failureReason: task.failureReason,
    errorMessage: task.errorMessage,
    stdoutTail: task.stdoutTail,
    stderrTail: task.stderrTail,
    durationMs: endMs === null || task.startedAtMs === null ? null : endMs - task.startedAtMs,
    eventsUrl: `/v1/tasks/${task.id}/events`,
  };
}

export function viewTaskEvent(event: TaskEventEntry): TaskEvent {
  return {
    sequence: event.sequence,
    at: instant(event.atMs),
    type: event.type,
    ...(event.state === undefined ? {} : { state: event.state }),
    ...(event.text === undefined ? {} : { text: event.text }),
  };
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
