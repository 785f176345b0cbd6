import type { Sandbox } from "@belljar/protocol";
import { randomBytes } from "node:crypto";
import { until } from "./support/machine.ts";
import { expect, test } from "./fixture.ts";

const COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /home/user/counter; sleep 0.02; done";

test("a sandbox is created, found, listed, and gone after its destruction", async ({ api }) => {
  const name = `n${randomBytes(6).toString("hex")}`;
  const sandbox = await api.create({ name, metadata: { purpose: "lifecycle" } });
  expect(sandbox.id).toMatch(/^[a-z][a-z0-9]{19}$/);
  expect(sandbox.state).toBe("running");
  expect(await api.get(sandbox.id)).toMatchObject({ id: sandbox.id, name, state: "running" });
  const query = "metadata=purpose%3Alifecycle";
  const page = await api.json<{ items: Sandbox[] }>("GET", `/v1/sandboxes?${query}`);
  expect(page.items.map(({ id }) => id)).toEqual([sandbox.id]);
  await api.destroy(sandbox.id);
  const gone = await api.call("GET", `/v1/sandboxes/${sandbox.id}`);
  expect(gone.status).toBe(404);
  const again = await api.create({ name });
  expect(again.name).toBe(name);
  await api.destroy(again.id);
});

test("a running sandbox says which layers and limits are in force", async ({ createSandbox }) => {
  const { effective, limits } = await createSandbox({ limits: { memoryBytes: 128 * 2 ** 20 } });
  expect(limits.memoryBytes).toBe(128 * 2 ** 20);
  expect(effective.length).toBeGreaterThan(5);
  for (const layer of effective) {
    if (layer.asked && !layer.inForce) expect(layer.reason ?? "").not.toBe("");
  }
});

test("frozen processes stand still, and go on where they were after a wake", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox({ start: { command: ["/bin/sh", "-c", COUNTER] } });
  const counter = async () => Number((await api.exec(id, "cat /home/user/counter")).stdout);
  await until("the counter counts", async () => (await counter().catch(() => 0)) > 5);
  expect((await api.move(id, "freeze")).state).toBe("frozen");
  expect((await api.get(id)).state).toBe("frozen");
  const usage = await api.json<{ cpuTimeMs: number }>("GET", `/v1/sandboxes/${id}/usage`);
  const later = await api.json<{ cpuTimeMs: number }>("GET", `/v1/sandboxes/${id}/usage`);
  expect(later.cpuTimeMs).toBe(usage.cpuTimeMs);
  expect((await api.get(id)).state).toBe("frozen");
  expect((await api.move(id, "wake")).state).toBe("running");
  const before = await counter();
  await until("it counts on", async () => (await counter()) > before);
});

test("exec wakes a frozen and a stopped sandbox", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  for (const verb of ["freeze", "stop"] as const) {
    await api.move(id, verb);
    expect((await api.exec(id, ["echo", "up"])).stdout).toBe("up\n");
    expect((await api.get(id)).state).toBe("running");
  }
});

test("stop keeps the workspace and ends the processes", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  await api.write(id, "/home/user/kept.txt", "kept");
  await api.json("POST", `/v1/sandboxes/${id}/processes`, { body: { command: ["sleep", "1000"] } });
  expect((await api.move(id, "stop")).state).toBe("stopped");
  expect((await api.move(id, "wake")).state).toBe("running");
  expect((await api.read(id, "/home/user/kept.txt")).toString()).toBe("kept");
  const { exitCode } = await api.exec(
    id,
    "for p in /proc/[0-9]*; do grep -qa 1000 $p/cmdline && exit 3; done; exit 0",
  );
  expect(exitCode === 0 || exitCode === 3).toBe(true);
  const { items } = await api.json<{ items: unknown[] }>("GET", `/v1/sandboxes/${id}/processes`);
  expect(items).toEqual([]);
});

test("the start command runs at every start", async ({ api, createSandbox }) => {
  const { id } = await createSandbox({
    start: { command: ["/bin/sh", "-c", "echo started >> /home/user/starts; exec sleep 1000"] },
  });
  const starts = async () =>
    (await api.exec(id, "cat /home/user/starts 2>/dev/null")).stdout.split("\n").length - 1;
  await until("the first start", async () => (await starts()) === 1);
  await api.move(id, "stop");
  await api.move(id, "wake");
  await until("the second start", async () => (await starts()) === 2);
});

test("fifty wakes at once are one start, and all fifty get its outcome", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox({
    start: { command: ["/bin/sh", "-c", "echo started >> /home/user/starts; exec sleep 1000"] },
  });
  await until(
    "the first start",
    async () => (await api.exec(id, ["test", "-s", "/home/user/starts"])).exitCode === 0,
  );
  await api.move(id, "stop");
  const woken = await Promise.all(Array.from({ length: 50 }, () => api.move(id, "wake")));
  expect(new Set(woken.map(({ state }) => state))).toEqual(new Set(["running"]));
  const starts = async () =>
    (await api.exec(id, "cat /home/user/starts")).stdout.split("\n").length - 1;
  await until("the start command ran again", async () => (await starts()) === 2);
});

test("stops, wakes, freezes and execs at once end in a state that is true", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const verbs = ["freeze", "stop", "wake"] as const;
  const moves = Array.from({ length: 30 }, (_, index) =>
    api.call("POST", `/v1/sandboxes/${id}/${verbs[index % 3]}`),
  );
  const execs = Array.from({ length: 10 }, () =>
    api.call("POST", `/v1/sandboxes/${id}/exec`, { body: { command: ["true"] } }),
  );
  const answers = await Promise.all([...moves, ...execs]);
  for (const answer of answers) expect([200, 409, 503]).toContain(answer.status);
  expect((await api.move(id, "wake")).state).toBe("running");
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
});

test("an idempotency key gives the first answer again and refuses another body", async ({
  api,
}) => {
  const headers = { "idempotency-key": randomBytes(8).toString("hex") };
  const first = await api.json<Sandbox>("POST", "/v1/sandboxes", { body: {}, headers });
  const second = await api.json<Sandbox>("POST", "/v1/sandboxes", { body: {}, headers });
  expect(second.id).toBe(first.id);
  const other = await api.call("POST", "/v1/sandboxes", {
    body: { metadata: { a: "b" } },
    headers,
  });
  expect(other.status).toBe(409);
  expect(other.body.toString()).toContain("IDEMPOTENCY_CONFLICT");
  await api.destroy(first.id);
});

test("lists are paged by a cursor without holes or doubles", async ({ api, createSandbox }) => {
  const made = await Promise.all(
    Array.from({ length: 7 }, () => createSandbox({ metadata: { set: "paged" } })),
  );
  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const query: string = `limit=3&metadata=set%3Apaged${cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`}`;
    const page: { items: Sandbox[]; nextCursor: string | null } = await api.json(
      "GET",
      `/v1/sandboxes?${query}`,
    );
    expect(page.items.length).toBeLessThanOrEqual(3);
    seen.push(...page.items.map(({ id }) => id));
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(seen.toSorted()).toEqual(made.map(({ id }) => id).toSorted());
});

test("a sandbox rests by itself when it is idle, and a visit of the API wakes it", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox({ timeouts: { idleMs: 1000, onIdle: "freeze" } });
  await until("it freezes", async () => (await api.get(id)).state === "frozen", {
    timeoutMs: 60_000,
    stepMs: 250,
  });
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
});

test("a guest that is killed leaves a sandbox that says so and can be woken", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  await api.write(id, "/home/user/kept", "x");
  const killed = await api.exec(id, ["kill", "-9", "1"], { user: "root" }).catch(() => undefined);
  // PID 1 of a namespace cannot be killed from inside, so it is still there.
  expect(killed?.exitCode ?? 0).toBe(0);
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
  const { guestPidOf } = await import("./support/guests.ts");
  process.kill(guestPidOf(daemon.dataDir, id), "SIGKILL");
  await until("the state is true", async () =>
    ["stopped", "error"].includes((await api.get(id)).state),
  );
  expect((await api.move(id, "wake")).state).toBe("running");
  expect((await api.read(id, "/home/user/kept")).toString()).toBe("x");
});
