import type { Task, TaskEvent } from "@belljar/protocol";
import { Belljar } from "@belljar/sdk";
import { ApiFailure } from "./support/api.ts";
import { startDaemon, stopAndLook } from "./support/daemon-process.ts";
import { temporaryDirectory } from "./support/machine.ts";
import { expect, test } from "./fixture.ts";

async function eventsOf(events: AsyncIterable<TaskEvent>): Promise<TaskEvent[]> {
  const seen: TaskEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

test("a task runs to its end, and its events have no holes", async ({ belljar, createSandbox }) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const task = await sandbox.tasks.create({ command: "echo one; echo two >&2; exit 3" });
  const events = await eventsOf(task.events());
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
  expect(events.at(-1)).toMatchObject({
    type: "done",
    task: { state: "failed", exitCode: 3, failureReason: "exit-code" },
  });
  expect(events.filter(({ type }) => type === "done")).toHaveLength(1);
  expect(await task.wait()).toMatchObject({ stdoutTail: "one\n", stderrTail: "two\n" });
});

test("one task runs at a time, and a cancelled one says so", async ({
  api,
  belljar,
  createSandbox,
}) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const task = await sandbox.tasks.create({
    command: "trap '' TERM; echo up; while :; do sleep 0.2; done",
  });
  const second = await api.call("POST", `/v1/sandboxes/${sandbox.id}/tasks`, {
    body: { command: ["true"] },
  });
  expect([second.status, new ApiFailure("task", second).code]).toEqual([409, "TASK_IN_PROGRESS"]);
  for await (const event of task.events()) if (event.text?.includes("up") === true) break;
  await task.cancel();
  expect(await task.wait()).toMatchObject({ state: "cancelled" });
  const third = await sandbox.tasks.create({ command: ["true"] });
  expect(await third.wait()).toMatchObject({ state: "succeeded", exitCode: 0 });
});

test("a task's timeout ends it", async ({ belljar, createSandbox }) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const task = await sandbox.tasks.create({ command: ["sleep", "1000"], timeoutMs: 1000 });
  expect(await task.wait()).toMatchObject({ state: "failed", failureReason: "timeout" });
});

test("a result outlives its sandbox", async ({ api, belljar }) => {
  const { id } = await api.create();
  const sandbox = await belljar.sandboxes.get(id);
  const task = await sandbox.tasks.create({ command: ["echo", "kept"] });
  await task.wait();
  await api.destroy(id);
  const later = await belljar.tasks.get(task.id);
  expect(later.info).toMatchObject({ state: "succeeded", stdoutTail: "kept\n" });
  expect((await eventsOf(later.events())).at(-1)?.type).toBe("done");
});

test("events resume after the last one seen, without doubles", async ({
  api,
  belljar,
  createSandbox,
}) => {
  const sandbox = await belljar.sandboxes.get((await createSandbox()).id);
  const task = await sandbox.tasks.create({
    command: "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done",
  });
  const all = await eventsOf(task.events());
  const middle = all[Math.floor(all.length / 2)]?.sequence ?? 0;
  const rest = await api.call("GET", `/v1/tasks/${task.id}/events`, {
    headers: { "last-event-id": String(middle) },
  });
  const ids = [...rest.body.toString().matchAll(/^id: ?([0-9]+)$/gm)].map((match) =>
    Number(match[1]),
  );
  expect(ids).toEqual(all.map(({ sequence }) => sequence).filter((sequence) => sequence > middle));
});

test("a task goes on over a restart of the daemon, or truly says that it was interrupted", async () => {
  using directory = temporaryDirectory("restart");
  const first = await startDaemon({ dataDir: directory.path });
  const { id } = await first.api.create();
  const command =
    "for i in $(seq 1 40); do echo line $i; sleep 0.1; done; echo end > /home/user/ended";
  const task = await first.api.json<Task>("POST", `/v1/sandboxes/${id}/tasks`, {
    body: { command },
  });
  const before = await new Belljar({ url: first.url, token: first.token }).tasks.get(task.id);
  for await (const event of before.events()) if (event.text?.includes("line 3") === true) break;
  await first.kill();
  const again = await startDaemon({ dataDir: directory.path, token: first.token });
  again.sandboxIds.add(id);
  const belljar = new Belljar({ url: again.url, token: again.token });
  const handle = await belljar.tasks.get(task.id);
  const events = await eventsOf(handle.events());
  expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
  const done = events.at(-1)?.task;
  const ended = await again.api.exec(id, ["test", "-e", "/home/user/ended"]);
  if (done?.state === "succeeded") {
    expect(ended.exitCode).toBe(0);
    const printed = events
      .flatMap(({ type, text }) => (type === "stdout" ? [text ?? ""] : []))
      .join("");
    const numbers = [...printed.matchAll(/line ([0-9]+)/g)].map((match) => Number(match[1]));
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, index) => index + 1));
  } else {
    expect(done?.state).toBe("interrupted");
  }
  const left = await stopAndLook(again);
  await again[Symbol.asyncDispose]();
  expect(left).toEqual({ processes: [], mounts: [], cgroups: [], sockets: [] });
});
