import { expect, test } from "vitest";
import { newSandboxId } from "../kernel/index.ts";
import { FakeClock } from "../sandbox/testing/fake-clock.ts";
import type { Store, TaskEntry, TaskEventEntry } from "../store/index.ts";
import { TaskRecorder } from "./recorder.ts";

function record() {
  const events: TaskEventEntry[] = [];
  // The cast: a recorder writes these three ways and no other.
  const store = {
    write: async () => undefined,
    tasks: { patchStep: () => ({}) },
    taskEvents: { insertStep: (event: TaskEventEntry) => events.push(event) },
  } as unknown as Store;
  const task = { id: "t", sandboxId: newSandboxId(), stdoutBytes: 0, stderrBytes: 0 } as TaskEntry;
  const recorder = new TaskRecorder({
    store,
    clock: new FakeClock(),
    task,
    sequence: 1,
    tails: { stdout: "", stderr: "" },
    written: () => undefined,
  });
  return { recorder, events };
}

test("output in crumbs, now on one stream and now on the other, makes a bounded number of events", async () => {
  const { recorder, events } = record();
  for (let index = 0; index < 60_000; index++) {
    recorder.output("stdout", Buffer.from("o"));
    recorder.output("stderr", Buffer.from("e"));
    if (index % 1000 === 0) await recorder.flush();
  }
  recorder.event("done");
  await recorder.flush();
  expect(events.length).toBeLessThanOrEqual(100_001);
  expect(events.filter((event) => event.type === "truncated")).toHaveLength(1);
  expect(events.at(-1)?.type).toBe("done");
  expect(events.map((event) => event.sequence)).toEqual(events.map((_, index) => index + 2));
  expect(recorder.position("stderr")).toBe(60_000);
  expect(recorder.tail("stdout")).toBe("o".repeat(60_000));
});
