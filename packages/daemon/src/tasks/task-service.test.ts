import { createTaskRequestSchema } from "@belljar/protocol";
import type { CreateTaskRequest, TaskEvent } from "@belljar/protocol";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { silentLogger } from "../log/index.ts";
import {
  createReal,
  makeDataDir,
  removeDataDir,
  shell,
  startRealDaemon,
} from "../sandbox/testing/real-daemon.ts";
import type { RealDaemon } from "../sandbox/testing/real-daemon.ts";
import { createTaskService } from "./index.ts";
import type { TaskService } from "./index.ts";

const CALLER = { owner: "tester" };
const fixture: { dataDir: string } = { dataDir: "" };
let daemon: RealDaemon;
let tasks: TaskService;
let id: SandboxId;

beforeAll(async () => {
  fixture.dataDir = await makeDataDir();
  daemon = await startRealDaemon(fixture.dataDir);
  tasks = await openTasks();
});

afterAll(async () => {
  await tasks[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
  await removeDataDir(fixture.dataDir);
});

beforeEach(async () => {
  id = await createReal(daemon);
});

afterEach(async () => {
  await daemon.sandboxes.destroy(id).catch(() => undefined);
});

async function openTasks(): Promise<TaskService> {
  const { store, sandboxes, events } = daemon;
  const service = createTaskService({
    store,
    sandboxes,
    events,
    clock: systemClock,
    logger: silentLogger(),
  });
  await service.open();
  return service;
}

/** The daemon ends, leaving sandboxes alone, and another one starts on the same data. */
async function restart(between: () => Promise<void> = async () => undefined): Promise<void> {
  await tasks[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
  await between();
  daemon = await startRealDaemon(fixture.dataDir);
  tasks = await openTasks();
}

async function begin(request: CreateTaskRequest) {
  return await tasks.create(id, createTaskRequestSchema.parse(request), CALLER);
}

async function all(taskId: string, since = 0): Promise<TaskEvent[]> {
  const events: TaskEvent[] = [];
  const signal = AbortSignal.timeout(50_000);
  for await (const event of tasks.subscribe(taskId, since, signal)) events.push(event);
  return events;
}

function textOf(events: TaskEvent[], type: "stdout" | "stderr"): string {
  return events
    .filter((event) => event.type === type)
    .map((event) => event.text)
    .join("");
}

function expectNoHoles(events: TaskEvent[], first = 1): void {
  expect(events.map((event) => event.sequence)).toEqual(events.map((_, index) => first + index));
  expect(events.filter((event) => event.type === "done")).toHaveLength(1);
  expect(events.at(-1)?.type).toBe("done");
}

test("a task's events are its states and its output, and its result needs no replay", async () => {
  const { id: taskId, state } = await begin({
    command: "echo out; echo err >&2; exit 3",
    metadata: { a: "b" },
  });
  expect(state).toBe("queued");
  const events = await all(taskId);
  expectNoHoles(events);
  expect([textOf(events, "stdout"), textOf(events, "stderr")]).toEqual(["out\n", "err\n"]);
  expect(events.flatMap((event) => (event.type === "state" ? [event.state] : []))).toEqual([
    "queued",
    "running",
    "failed",
  ]);
  const task = events.at(-1)?.task;
  expect(task).toMatchObject({
    state: "failed",
    exitCode: 3,
    failureReason: "exit-code",
    stdoutTail: "out\n",
    stderrTail: "err\n",
    metadata: { a: "b" },
  });
  expect(await tasks.get(taskId)).toEqual(task);
});

const OUTCOMES = [
  { command: "true", expected: { state: "succeeded", exitCode: 0, failureReason: null } },
  { command: ["no-such-program"], expected: { state: "failed", failureReason: "start-failed" } },
  {
    command: "kill -9 $$",
    expected: { state: "failed", signal: "SIGKILL", failureReason: "signal" },
  },
  { command: "sleep 60", timeoutMs: 1000, expected: { state: "failed", failureReason: "timeout" } },
  {
    command: "true",
    cwd: "/nowhere",
    expected: { state: "failed", failureReason: "start-failed" },
  },
  {
    command: "true",
    user: "nobody-knows",
    expected: { state: "failed", failureReason: "start-failed" },
  },
];

test.for(OUTCOMES)("$command ends as $expected", async ({ expected, ...request }) => {
  const { id: taskId } = await begin(request);
  expectNoHoles(await all(taskId));
  expect(await tasks.get(taskId)).toMatchObject(expected);
});

test("a sandbox runs one task at a time, and then the next", async () => {
  const first = await begin({ command: "while [ ! -e ~/go ]; do sleep 0.02; done" });
  await expect(begin({ command: "true" })).rejects.toMatchObject({
    code: "TASK_IN_PROGRESS",
    details: { taskId: first.id },
  });
  await shell(daemon, id, "touch ~/go");
  await all(first.id);
  const second = await begin({ command: "true" });
  await all(second.id);
  const { items } = await tasks.list({ limit: 10, sandboxId: id });
  expect(items.map((task) => [task.id, task.state])).toEqual([
    [second.id, "succeeded"],
    [first.id, "succeeded"],
  ]);
});

test("cancel() ends even a task that ignores TERM, and its group", async () => {
  const { id: taskId } = await begin({
    command: "trap '' TERM; echo ready; sleep 1000 & while :; do sleep 0.1; done",
  });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.text === "ready\n") break;
  const task = await tasks.cancel(taskId);
  expect(task).toMatchObject({ state: "cancelled", failureReason: "cancelled" });
  expect((await shell(daemon, id, "pgrep -c sleep")).out).toBe("0");
  expect(await tasks.cancel(taskId)).toEqual(task);
});

test("cancel() reaches a task whose sandbox is frozen", async () => {
  const { id: taskId } = await begin({ command: "echo ready; sleep 1000" });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.text === "ready\n") break;
  await daemon.sandboxes.freeze(id);
  expect(await tasks.cancel(taskId)).toMatchObject({ state: "cancelled", signal: "SIGTERM" });
});

test("old tasks are forgotten while the daemon runs, the running one and the newest are not", async () => {
  const { store, sandboxes, events } = daemon;
  await using few = createTaskService({
    store,
    sandboxes,
    events,
    clock: systemClock,
    logger: silentLogger(),
    retainedCountMax: 3,
  });
  const made: string[] = [];
  for (let index = 0; index < 9; index++) {
    const input = createTaskRequestSchema.parse({ command: "true" });
    const task = await few.create(id, input, CALLER);
    made.unshift(task.id);
    for await (const _event of few.subscribe(task.id, 0));
  }
  const { items } = await few.list({ limit: 100 });
  expect(items.map((task) => task.id)).toEqual(made.slice(0, 3));
  expect(await store.taskEvents.since(made[8] ?? "", 0, 10)).toEqual([]);
});

test("a task wakes its sandbox", async () => {
  await daemon.sandboxes.stop(id);
  const { id: taskId } = await begin({ command: "echo awake" });
  expect(textOf(await all(taskId), "stdout")).toBe("awake\n");
});

test("a task whose sandbox ends is interrupted, and its record outlives the sandbox", async () => {
  const { id: taskId } = await begin({ command: "echo before; sleep 1000" });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.text === "before\n") break;
  await daemon.sandboxes.destroy(id);
  const events = await all(taskId);
  expectNoHoles(events);
  expect(events.at(-1)?.task).toMatchObject({
    state: "interrupted",
    failureReason: "sandbox-ended",
    stdoutTail: "before\n",
  });
});

test("subscribers that come late, early, twice and from the middle all see the same", async () => {
  const { id: taskId } = await begin({
    command: "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.06; done",
  });
  const [early, also] = await Promise.all([all(taskId), all(taskId)]);
  expectNoHoles(early);
  expect(also).toEqual(early);
  expect(await all(taskId)).toEqual(early);
  for (const since of [1, 3, early.length - 1])
    expect(await all(taskId, since)).toEqual(early.slice(since));
  expect(await all(taskId, early.length)).toEqual([]);
});

test("output beyond the limit is counted, not kept, and said once; the end is in the tail", async () => {
  const { id: taskId } = await begin({
    command: "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo; echo the end",
  });
  const events = await all(taskId);
  expectNoHoles(events);
  expect(events.filter((event) => event.type === "truncated")).toHaveLength(1);
  expect(textOf(events, "stdout").length).toBeLessThanOrEqual(8 * 1024 * 1024);
  expect(textOf(events, "stdout").length).toBeGreaterThan(8 * 1024 * 1024 - 128 * 1024);
  for (const event of events)
    expect(Buffer.byteLength(event.text ?? "")).toBeLessThanOrEqual(16 * 1024);
  const { stdoutTail } = await tasks.get(taskId);
  expect(stdoutTail.length).toBeLessThanOrEqual(64 * 1024);
  expect(stdoutTail.endsWith("x\nthe end\n")).toBe(true);
});

test("characters of several bytes are whole in every event", async () => {
  const { id: taskId } = await begin({
    command: "for i in $(seq 3000); do printf 'grüße 🫙 '; done",
  });
  expect(textOf(await all(taskId), "stdout")).toBe("grüße 🫙 ".repeat(3000));
});

test("a task goes on while the daemon is away, and not a byte is lost or told twice", async () => {
  const { id: taskId } = await begin({
    command:
      "for i in 1 2 3; do echo same; done; while [ ! -e ~/go ]; do sleep 0.02; done; for i in 1 2 3 4; do echo same; done; while [ ! -e ~/end ]; do sleep 0.02; done; exit 7",
  });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.type === "stdout") break;
  await restart();
  expect(await tasks.get(taskId)).toMatchObject({ state: "running" });
  await expect(begin({ command: "true" })).rejects.toMatchObject({ code: "TASK_IN_PROGRESS" });
  await shell(daemon, id, "touch ~/go");
  await restart();
  await shell(daemon, id, "touch ~/end");
  const events = await all(taskId);
  expectNoHoles(events);
  expect(textOf(events, "stdout")).toBe("same\n".repeat(7));
  expect(await tasks.get(taskId)).toMatchObject({
    state: "failed",
    exitCode: 7,
    stdoutTail: "same\n".repeat(7),
  });
});

test("a task that ended while the daemon was away ends with its true result", async () => {
  const { id: taskId } = await begin({
    command: "echo start; sleep 0.5; head -c 300000 /dev/zero | tr '\\0' y; exit 5",
  });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.type === "stdout") break;
  await restart(() => new Promise((resolve) => setTimeout(resolve, 1500)));
  const events = await all(taskId);
  expectNoHoles(events);
  expect(await tasks.get(taskId)).toMatchObject({ state: "failed", exitCode: 5 });
  expect(events.some((event) => event.type === "truncated")).toBe(true);
  expect(textOf(events, "stdout").length).toBeLessThan(300_000);
});

test("a task whose sandbox ended while the daemon was away is interrupted", async () => {
  const { id: taskId } = await begin({ command: "echo start; sleep 1000" });
  for await (const event of tasks.subscribe(taskId, 0)) if (event.type === "stdout") break;
  await daemon.driver.kill(id);
  await restart();
  const events = await all(taskId);
  expectNoHoles(events);
  expect(events.at(-1)?.task).toMatchObject({
    state: "interrupted",
    failureReason: "sandbox-ended",
  });
});

test("the same idempotency key makes one task", async () => {
  const caller = { owner: "tester", idempotencyKey: `key-${id}` };
  const make = (command: string) =>
    tasks.create(id, createTaskRequestSchema.parse({ command }), caller);
  const [first, second] = await Promise.all([make("true"), make("true")]);
  expect(second.id).toBe(first.id);
  await all(first.id);
  expect((await make("true")).id).toBe(first.id);
  await expect(make("false")).rejects.toMatchObject({ code: "IDEMPOTENCY_CONFLICT" });
});

test("unknown tasks and sandboxes are told as such", async () => {
  const unknown = "a".repeat(20);
  await expect(tasks.get(unknown)).rejects.toMatchObject({ code: "TASK_NOT_FOUND" });
  await expect(tasks.cancel(unknown)).rejects.toMatchObject({ code: "TASK_NOT_FOUND" });
  await expect(all(unknown)).rejects.toMatchObject({ code: "TASK_NOT_FOUND" });
  const input = createTaskRequestSchema.parse({ command: "true" });
  await expect(tasks.create(unknown as SandboxId, input, CALLER)).rejects.toMatchObject({
    code: "SANDBOX_NOT_FOUND",
  });
});

test("a page of tasks is bounded by its bytes, and the next one goes on", async () => {
  const made: string[] = [];
  for (let index = 0; index < 5; index++) {
    const task = await begin({ command: ["true", "x".repeat(100_000)] });
    made.unshift(task.id);
    await all(task.id);
  }
  const entry = await daemon.store.tasks.get(made[0] ?? "");
  const large = { command: ["true", "x".repeat(3 * 1024 * 1024)] };
  for (const taskId of made)
    await daemon.store.write([daemon.store.tasks.patchStep(taskId, large)]);
  expect(entry?.command).toHaveLength(2);
  const seen: string[] = [];
  let cursor: string | null | undefined;
  do {
    const page = await tasks.list({
      limit: 1000,
      sandboxId: id,
      ...(typeof cursor === "string" ? { cursor } : {}),
    });
    expect(JSON.stringify(page).length).toBeLessThan(12 * 1024 * 1024);
    seen.push(...page.items.map((task) => task.id));
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(seen).toEqual(made);
});

test("list() pages through all tasks, newest first", async () => {
  const made: string[] = [];
  for (let index = 0; index < 3; index++) {
    const task = await begin({ command: "true" });
    made.unshift(task.id);
    await all(task.id);
  }
  const first = await tasks.list({ limit: 2, sandboxId: id });
  const second = await tasks.list({ limit: 2, sandboxId: id, cursor: first.nextCursor ?? "" });
  expect([...first.items, ...second.items].map((task) => task.id)).toEqual(made);
  expect(second.nextCursor).toBeNull();
});
