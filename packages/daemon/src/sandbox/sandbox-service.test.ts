import { BelljarError } from "@belljar/protocol";
import { expect, test } from "vitest";
import { GIB, MIB, newSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { CALLER, input, makeWorld } from "./testing/world.ts";
import { settle } from "./testing/fake-clock.ts";

function outcomes(results: PromiseSettledResult<unknown>[]) {
  const codes = results.map((result) => {
    if (result.status === "fulfilled") return "ok";
    return BelljarError.is(result.reason) ? result.reason.code : String(result.reason);
  });
  return Object.fromEntries(
    [...Map.groupBy(codes, (code) => code)].map(([code, all]) => [code, all.length]),
  );
}

test("create() makes a running sandbox with the daemon's defaults", async () => {
  await using world = await makeWorld();
  const made = await world.sandboxes.create(input({ name: "web", ports: [8080] }), CALLER);
  expect(made).toMatchObject({
    name: "web",
    state: "running",
    template: "host",
    error: null,
    limits: { memoryBytes: 2 * GIB, cpuCount: 2, diskBytes: 10 * GIB },
    previews: [{ port: 8080, visibility: "private", url: `http://8080-${made.id}.localhost` }],
  });
  expect(made.effective.map((layer) => layer.layer)).toEqual(["disk-limit", "pid-namespace"]);
  expect(await world.sandboxes.get(made.id as SandboxId)).toEqual(made);
  expect(world.driver.violations).toEqual([]);
});

const REFUSED = [
  { request: { template: "nope" }, code: "TEMPLATE_NOT_FOUND" },
  { request: { level: "maximum" as const }, code: "LAYER_UNSUPPORTED" },
  { request: { level: "off" as const }, code: "LAYER_UNSUPPORTED" },
  { request: { limits: { openFilesMax: 1_000_000 } }, code: "LIMIT_UNSUPPORTED" },
  { request: { limits: { cpuCount: 64 } }, code: "LIMIT_UNSUPPORTED" },
  { request: { limits: { memoryBytes: 999 * GIB } }, code: "LIMIT_UNSUPPORTED" },
  { request: { ports: [80, 80] }, code: "BAD_REQUEST" },
  { request: { name: "taken" }, code: "SANDBOX_NAME_TAKEN" },
];

test.for(REFUSED)(
  "create() refuses $request with $code and writes nothing",
  async ({ request, code }) => {
    await using world = await makeWorld();
    await world.create({ name: "taken" });
    const newestId = world.events.newestId;
    await expect(world.sandboxes.create(input(request), CALLER)).rejects.toMatchObject({ code });
    expect(world.events.newestId).toBe(newestId);
    expect(world.driver.startCount).toBe(1);
    expect(world.sandboxes.memory().reservedBytes).toBe(64 * MIB);
  },
);

test("create() degrades where it was allowed to, and says so", async () => {
  await using world = await makeWorld();
  const request = {
    level: "strict" as const,
    limits: { cpuCount: 64 },
    onUnsupported: "degrade" as const,
  };
  const made = await world.sandboxes.create(input(request), CALLER);
  expect(made.limits.cpuCount).toBe(4);
  const unmet = made.effective.filter((layer) => !layer.inForce);
  expect(unmet.map((layer) => layer.layer).toSorted()).toEqual(["level.strict", "limit.cpuCount"]);
});

test("a disk limit that the pool cannot hold is refused when asked for, and absent otherwise", async () => {
  await using world = await makeWorld();
  world.driver.pool = "directory";
  await using again = await world.crash();
  await expect(again.create({ limits: { diskBytes: GIB } })).rejects.toMatchObject({
    code: "LIMIT_UNSUPPORTED",
  });
  const made = await again.sandboxes.create(input(), CALLER);
  expect(made.limits.diskBytes).toBeNull();
});

test("create() counts to countMax, also when all come at once", async () => {
  await using world = await makeWorld({ settings: { countMax: 7 } });
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => world.create()));
  expect(outcomes(results)).toEqual({ ok: 7, SANDBOX_LIMIT_REACHED: 13 });
});

test("of a hundred creates at once with memory for five, five are made", async () => {
  const memory = { totalBytes: 10 * GIB, availableBytes: GIB + 5 * 64 * MIB };
  await using world = await makeWorld({ memory });
  const results = await Promise.allSettled(Array.from({ length: 100 }, () => world.create()));
  expect(outcomes(results)).toEqual({ ok: 5, MEMORY_EXHAUSTED: 95 });
  expect(world.driver.living.size).toBe(5);
  expect(world.driver.volumes.size).toBe(5);
});

test("of a hundred wakes at once with memory for five, five start", async () => {
  await using world = await makeWorld();
  const ids = await Promise.all(Array.from({ length: 100 }, () => world.create()));
  await Promise.all(ids.map((id) => world.sandboxes.stop(id)));
  world.driver.startCount = 0;
  // What a stop measured is what a wake expects.
  world.memory.totalBytes = 10 * GIB;
  world.memory.availableBytes = GIB + 5 * world.driver.memoryBytes;
  const results = await Promise.allSettled(
    ids.map((id) => world.sandboxes.wake(id, { reason: "test" })),
  );
  expect(outcomes(results)).toEqual({ ok: 5, MEMORY_EXHAUSTED: 95 });
  expect(world.driver.startCount).toBe(5);
});

test("of two creates with one name at once, one is made", async () => {
  await using world = await makeWorld();
  const results = await Promise.allSettled([
    world.create({ name: "a" }),
    world.create({ name: "a" }),
  ]);
  expect(outcomes(results)).toEqual({ ok: 1, SANDBOX_NAME_TAKEN: 1 });
});

test.for(["ensureVolume", "start"] as const)(
  "a create that fails at %s leaves nothing",
  async (point) => {
    await using world = await makeWorld();
    world.driver.fault = (at) => at === point;
    await expect(world.create({ name: "a" })).rejects.toMatchObject({ code: "WARDEN_REFUSED" });
    world.driver.fault = () => false;
    expect(world.driver.living.size).toBe(0);
    expect(world.driver.volumes.size).toBe(0);
    expect(await world.store.sandboxes.all(() => undefined)).toEqual([]);
    expect(world.sandboxes.memory().reservedBytes).toBe(0);
    await world.create({ name: "a" });
  },
);

test("a create whose cleanup fails too is finished by the reconciler", async () => {
  await using world = await makeWorld();
  world.driver.fault = (at) => at === "start" || at === "removeVolume";
  await expect(world.create()).rejects.toMatchObject({ code: "WARDEN_REFUSED" });
  expect(world.driver.volumes.size).toBe(1);
  world.driver.fault = () => false;
  expect(await world.sandboxes.reconcile()).toMatchObject({ destroyedCount: 1 });
  expect(world.driver.volumes.size).toBe(0);
  expect(await world.store.sandboxes.all(() => undefined)).toEqual([]);
});

test("a full disk fails the create and leaves nothing", async () => {
  await using world = await makeWorld();
  world.disk.isFull = true;
  await expect(world.create()).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  world.disk.isFull = false;
  expect(world.driver.volumes.size).toBe(0);
  expect(world.sandboxes.counts().creating).toBe(0);
  await world.create();
});

test("a disk that fills during a create leaves no process and no volume", async () => {
  await using world = await makeWorld();
  const held = Promise.withResolvers<void>();
  world.driver.holdStart = held.promise;
  const create = world.create();
  await settle();
  world.disk.isFull = true;
  held.resolve();
  await expect(create).rejects.toMatchObject({ code: "STORAGE_FAILED" });
  expect(world.driver.living.size).toBe(0);
  world.disk.isFull = false;
  await world.sandboxes.reconcile();
  expect(world.driver.volumes.size).toBe(0);
  expect(await world.store.sandboxes.all(() => undefined)).toEqual([]);
});

test("the same idempotency key and request answer with the same sandbox", async () => {
  await using world = await makeWorld();
  const caller = { owner: "a", idempotencyKey: "k" };
  const [first, second] = await Promise.all([
    world.sandboxes.create(input({ metadata: { a: "1", b: "2" } }), caller),
    world.sandboxes.create(input({ metadata: { b: "2", a: "1" } }), caller),
  ]);
  const third = await world.sandboxes.create(input({ metadata: { a: "1", b: "2" } }), caller);
  expect([second.id, third.id]).toEqual([first.id, first.id]);
  expect(world.driver.startCount).toBe(1);
  await expect(world.sandboxes.create(input(), caller)).rejects.toMatchObject({
    code: "IDEMPOTENCY_CONFLICT",
  });
  const other = await world.sandboxes.create(input(), { owner: "b", idempotencyKey: "k" });
  expect(other.id).not.toBe(first.id);
  await world.sandboxes.destroy(first.id as SandboxId);
  const repeated = world.sandboxes.create(input({ metadata: { a: "1", b: "2" } }), caller);
  await expect(repeated).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
});

test("a failed create frees its idempotency key", async () => {
  await using world = await makeWorld();
  const caller = { owner: "a", idempotencyKey: "k" };
  world.driver.fault = (at) => at === "start";
  await expect(world.sandboxes.create(input(), caller)).rejects.toMatchObject({
    code: "WARDEN_REFUSED",
  });
  world.driver.fault = () => false;
  await world.sandboxes.create(input(), caller);
  expect(world.driver.living.size).toBe(1);
});

test("fifty visitors of a stopped sandbox cause one start", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.stop(id);
  world.driver.startCount = 0;
  const wakes = Array.from({ length: 50 }, () => world.sandboxes.wake(id, { reason: "visit" }));
  expect(outcomes(await Promise.allSettled(wakes))).toEqual({ ok: 50 });
  expect(world.driver.startCount).toBe(1);
});

test("fifty visitors of a sandbox that cannot start all get the one failure", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.stop(id);
  world.driver.startCount = 0;
  world.driver.fault = (at) => at === "start";
  const wakes = Array.from({ length: 50 }, () => world.sandboxes.wake(id, { reason: "visit" }));
  expect(outcomes(await Promise.allSettled(wakes))).toEqual({ WARDEN_REFUSED: 50 });
  expect(world.driver.startCount).toBe(1);
  const after = await world.sandboxes.get(id);
  expect(after).toMatchObject({ state: "stopped", error: { code: "WARDEN_REFUSED" } });
  world.driver.fault = () => false;
  const woken = await world.sandboxes.wake(id, { reason: "visit" });
  expect(woken).toMatchObject({ state: "running", error: null });
});

test("fifty visitors whose leader is refused memory are all refused, and nothing starts", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.stop(id);
  world.driver.startCount = 0;
  world.memory.availableBytes = 0;
  const wakes = Array.from({ length: 50 }, () => world.sandboxes.wake(id, { reason: "visit" }));
  expect(outcomes(await Promise.allSettled(wakes))).toEqual({ MEMORY_EXHAUSTED: 50 });
  expect(world.driver.startCount).toBe(0);
});

test("a visitor who leaves does not end the wake for those who stay", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.stop(id);
  const held = Promise.withResolvers<void>();
  world.driver.holdStart = held.promise;
  const leaver = new AbortController();
  const left = world.sandboxes.wake(id, { reason: "visit", signal: leaver.signal });
  const stayed = world.sandboxes.wake(id, { reason: "visit" });
  leaver.abort();
  await expect(left).rejects.toMatchObject({ code: "CANCELLED" });
  held.resolve();
  expect(await stayed).toMatchObject({ state: "running" });
});

test("wake() answers by state: creating and error start nothing", async () => {
  await using world = await makeWorld();
  const held = Promise.withResolvers<void>();
  world.driver.holdStart = held.promise;
  const create = world.create();
  await settle();
  const [creating] = (await world.sandboxes.list({ limit: 1 })).items;
  expect(creating?.state).toBe("creating");
  const wake = world.sandboxes.wake(creating?.id as SandboxId, { reason: "visit" });
  await expect(wake).rejects.toMatchObject({ code: "SANDBOX_STARTING" });
  await using next = await world.crash();
  held.resolve();
  void create;
  const [failed] = (await next.sandboxes.list({ limit: 1 })).items;
  expect(failed).toMatchObject({ state: "error", error: { code: "INTERRUPTED" } });
  const id = failed?.id as SandboxId;
  await expect(next.sandboxes.wake(id, { reason: "visit" })).rejects.toMatchObject({
    code: "SANDBOX_FAILED",
  });
  await expect(next.sandboxes.wake(newSandboxId(), { reason: "visit" })).rejects.toMatchObject({
    code: "SANDBOX_NOT_FOUND",
  });
  await next.sandboxes.stop(id);
  expect(await next.sandboxes.wake(id, { reason: "visit" })).toMatchObject({
    state: "running",
    error: null,
  });
});

test("stop, wake and destroy at once never overlap and end destroyed", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  const results = await Promise.allSettled([
    world.sandboxes.stop(id),
    world.sandboxes.wake(id, { reason: "visit" }),
    world.sandboxes.freeze(id),
    world.sandboxes.destroy(id),
    world.sandboxes.wake(id, { reason: "visit" }),
  ]);
  expect(results[3]?.status).toBe("fulfilled");
  expect(world.driver.violations).toEqual([]);
  expect(world.driver.living.size).toBe(0);
  expect(world.driver.volumes.size).toBe(0);
  await expect(world.sandboxes.get(id)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
});

test("what goes to rest shows as resting to the gateway at once, and a destroyed preview is gone", async () => {
  await using world = await makeWorld();
  const id = await world.create({ ports: [80] });
  const seen: unknown[] = [];
  world.sandboxes.onChange((which) => seen.push(world.sandboxes.findPreview(which, 80)?.state));
  await world.sandboxes.freeze(id);
  expect(seen.splice(0)).toEqual(["frozen", "frozen"]);
  await world.sandboxes.wake(id, { reason: "x" });
  expect(seen.splice(0)).toEqual(["frozen", "running"]);
  await world.sandboxes.stop(id);
  expect(seen.splice(0)).toEqual(["stopped", "stopped"]);
  await world.sandboxes.destroy(id);
  expect(seen.splice(0)).toEqual([undefined, undefined]);
});

test("previews can be opened, changed and closed, and survive a restart", async () => {
  await using world = await makeWorld();
  const id = await world.create({ visibility: "link" });
  expect(await world.sandboxes.putPreview(id, 3000, {})).toMatchObject({ visibility: "link" });
  const before = world.sandboxes.findPreview(id, 3000)?.revision ?? 0;
  await world.sandboxes.putPreview(id, 3000, { visibility: "public" });
  expect(world.sandboxes.findPreview(id, 3000)).toMatchObject({ visibility: "public" });
  expect(world.sandboxes.findPreview(id, 3000)?.revision).toBeGreaterThan(before);
  await world.sandboxes.putPreview(id, 4000, {});
  await world.sandboxes.removePreview(id, 4000);
  await expect(world.sandboxes.removePreview(id, 4000)).rejects.toMatchObject({
    code: "PREVIEW_NOT_FOUND",
  });
  await using next = await world.crash();
  expect((await next.sandboxes.listPreviews(id)).map((preview) => preview.port)).toEqual([3000]);
});

test("a kept workspace outlives its sandbox until it is destroyed again", async () => {
  await using world = await makeWorld();
  const id = await world.create({ name: "a" });
  await world.sandboxes.destroy(id, { keepWorkspace: true });
  expect(world.driver.living.size).toBe(0);
  expect(world.driver.volumes.has(id)).toBe(true);
  expect((await world.sandboxes.list({ limit: 10 })).items).toEqual([]);
  expect((await world.sandboxes.list({ limit: 10, state: "destroyed" })).items).toHaveLength(1);
  await world.create({ name: "a" });
  await using next = await world.crash();
  expect(next.driver.volumes.has(id)).toBe(true);
  await expect(next.sandboxes.wake(id, { reason: "x" })).rejects.toMatchObject({
    code: "SANDBOX_NOT_FOUND",
  });
  await next.sandboxes.destroy(id);
  expect(next.driver.volumes.has(id)).toBe(false);
});

test("the end of a guest makes its sandbox stopped, with the reason, and it can be woken", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  world.driver.end(id, { isOutOfMemory: true });
  await expect
    .poll(() => world.sandboxes.get(id))
    .toMatchObject({
      state: "stopped",
      error: { code: "OUT_OF_MEMORY" },
    });
  expect(await world.sandboxes.wake(id, { reason: "x" })).toMatchObject({
    state: "running",
    error: null,
  });
});

test("list() pages newest first and filters", async () => {
  await using world = await makeWorld();
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) {
    await world.clock.advance(index % 2);
    ids.unshift(await world.create({ metadata: { even: String(index % 2 === 0) } }));
  }
  const seen: string[] = [];
  let cursor: string | null | undefined;
  do {
    const page = await world.sandboxes.list({
      limit: 2,
      ...(typeof cursor === "string" ? { cursor } : {}),
    });
    seen.push(...page.items.map((item) => item.id));
    cursor = page.nextCursor;
  } while (cursor !== null);
  expect(seen.toSorted()).toEqual(ids.toSorted());
  const even = await world.sandboxes.list({ limit: 10, metadata: { even: "true" } });
  expect(even.items).toHaveLength(3);
  await expect(world.sandboxes.list({ limit: 1, cursor: "junk" })).rejects.toMatchObject({
    code: "BAD_REQUEST",
  });
});

test.for([false, true])(
  "of renames to one name at once, one gets it (and a create: %s)",
  async (alsoCreate) => {
    await using world = await makeWorld();
    const ids = [await world.create(), await world.create(), await world.create()];
    const results = await Promise.allSettled([
      ...ids.map((id) => world.sandboxes.update(id, { name: "wanted" })),
      ...(alsoCreate ? [world.create({ name: "wanted" })] : []),
    ]);
    const refused = results.flatMap((result): unknown[] =>
      result.status === "rejected" ? [result.reason] : [],
    );
    expect(refused).toHaveLength(results.length - 1);
    for (const reason of refused) expect(reason).toMatchObject({ code: "SANDBOX_NAME_TAKEN" });
    expect((await world.sandboxes.list({ limit: 10, name: "wanted" })).items).toHaveLength(1);
  },
);

test("a rename that cannot be stored leaves both names as they were", async () => {
  await using world = await makeWorld();
  const id = await world.create({ name: "old" });
  world.disk.isFull = true;
  await expect(world.sandboxes.update(id, { name: "new" })).rejects.toMatchObject({
    code: "STORAGE_FAILED",
  });
  world.disk.isFull = false;
  expect((await world.sandboxes.get(id)).name).toBe("old");
  await world.create({ name: "new" });
  await expect(world.create({ name: "old" })).rejects.toMatchObject({ code: "SANDBOX_NAME_TAKEN" });
});

test("nothing that a reader sees holds an environment", async () => {
  await using world = await makeWorld();
  const id = await world.create({
    env: { A: "secret-of-env" },
    start: { command: ["serve"], cwd: "/srv", env: { B: "secret-of-start" } },
  });
  const seen = JSON.stringify([
    await world.sandboxes.get(id),
    await world.sandboxes.list({ limit: 10 }),
    await world.events.since(0),
  ]);
  expect(seen).toContain('"command":["serve"],"cwd":"/srv"');
  expect(seen).not.toContain("secret-of");
});

test("update() renames, and a name that is taken stays its owner's", async () => {
  await using world = await makeWorld();
  await world.create({ name: "a" });
  const id = await world.create({ name: "b" });
  await expect(world.sandboxes.update(id, { name: "a" })).rejects.toMatchObject({
    code: "SANDBOX_NAME_TAKEN",
  });
  const updated = await world.sandboxes.update(id, { name: "c", timeouts: { idleMs: null } });
  expect(updated).toMatchObject({ name: "c", timeouts: { idleMs: null, onIdle: "freeze" } });
  await world.create({ name: "b" });
});

test("guest() refuses what sleeps when it may not wake it", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.freeze(id);
  await expect(world.sandboxes.guest(id, { wake: false })).rejects.toMatchObject({
    code: "SANDBOX_STATE",
  });
  await world.sandboxes.guest(id);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
});

test("a service that is closing refuses new work", async () => {
  const world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.freeze(id);
  await world.sandboxes[Symbol.asyncDispose]();
  await expect(world.create()).rejects.toMatchObject({ code: "DRAINING" });
  await expect(world.sandboxes.wake(id, { reason: "x" })).rejects.toMatchObject({
    code: "DRAINING",
  });
  await world[Symbol.asyncDispose]();
});
