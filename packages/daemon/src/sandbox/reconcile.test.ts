import fc from "fast-check";
import { expect, test } from "vitest";
import { newSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { settle } from "./testing/fake-clock.ts";
import type { FaultPoint } from "./testing/fake-driver.ts";
import { makeWorld } from "./testing/world.ts";
import type { World } from "./testing/world.ts";

test("a sandbox that ended while no daemon looked is stopped", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.driver[Symbol.asyncDispose]();
  world.driver.end(id);
  await world.clock.advance(15_000);
  expect(await world.sandboxes.get(id)).toMatchObject({
    state: "stopped",
    error: { code: "GUEST_ENDED" },
  });
});

test("a living sandbox without a row is killed, and one with a row is left alone", async () => {
  await using world = await makeWorld();
  const kept = await world.create();
  const orphan = newSandboxId();
  world.driver.living.set(orphan, { id: orphan, state: "running", startedAtMs: 0 });
  expect(await world.sandboxes.reconcile()).toMatchObject({
    orphanProcessCount: 1,
    livingCount: 2,
  });
  expect([...world.driver.living.keys()]).toEqual([kept]);
});

test("a volume without a row is removed, unless it was there before the store", async () => {
  const first = await makeWorld();
  const foreign = newSandboxId();
  first.driver.volumes.add(foreign);
  await first[Symbol.asyncDispose]();
  await using world = await makeWorld({ driver: first.driver });
  const orphan = newSandboxId();
  world.driver.volumes.add(orphan);
  expect(await world.sandboxes.reconcile()).toMatchObject({ orphanVolumeCount: 1 });
  expect([...world.driver.volumes]).toEqual([foreign]);
  await using again = await world.crash();
  expect([...again.driver.volumes]).toEqual([foreign]);
});

test("a reconcile beside fifty creates disturbs none of them", async () => {
  await using world = await makeWorld();
  const creates = Array.from({ length: 50 }, () => world.create());
  for (let round = 0; round < 10; round++) {
    await settle();
    void world.sandboxes.reconcile();
  }
  await Promise.all(creates);
  await world.sandboxes.reconcile();
  expect(world.sandboxes.counts()).toMatchObject({ running: 50, stopped: 0, error: 0 });
  expect(world.driver.living.size).toBe(50);
});

test.for([0, 1, 2, 3, 4, 6])(
  "a daemon that dies %i turns into fifty creates converges",
  async (turns) => {
    await using world = await makeWorld();
    for (let index = 0; index < 50; index++) world.create().catch(() => undefined);
    for (let turn = 0; turn < turns; turn++)
      await new Promise<void>((resolve) => setImmediate(resolve));
    await using next = await world.crash();
    await expectAgreement(next);
    const { creating } = next.sandboxes.counts();
    expect(creating).toBe(0);
  },
);

test("a destroy that was cut off is finished at boot", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  world.driver.fault = (point) => point === "removeVolume";
  await expect(world.sandboxes.destroy(id)).rejects.toMatchObject({ code: "WARDEN_REFUSED" });
  world.driver.fault = () => false;
  await using next = await world.crash();
  await expect(next.sandboxes.get(id)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  expect(next.driver.volumes.size).toBe(0);
});

test("a frozen sandbox stays frozen over a restart, and a thaw outside shows as running", async () => {
  await using world = await makeWorld();
  const frozen = await world.create();
  const thawed = await world.create();
  await world.sandboxes.freeze(frozen);
  await world.sandboxes.freeze(thawed);
  await world.driver.thaw(thawed);
  await using next = await world.crash();
  expect(await next.sandboxes.get(frozen)).toMatchObject({ state: "frozen" });
  expect(await next.sandboxes.get(thawed)).toMatchObject({ state: "running" });
});

test("a stop that the driver failed is settled before a wake, which then starts anew", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  world.driver.fault = (point) => point === "kill";
  await expect(world.sandboxes.stop(id)).rejects.toMatchObject({ code: "WARDEN_REFUSED" });
  world.driver.fault = () => false;
  world.driver.startCount = 0;
  expect(await world.sandboxes.wake(id, { reason: "x" })).toMatchObject({ state: "running" });
  expect(world.driver.startCount).toBe(1);
});

const POINTS: FaultPoint[] = [
  "ensureVolume",
  "removeVolume",
  "start",
  "freeze",
  "thaw",
  "kill",
  "list",
];

const action = fc.record({
  kind: fc.constantFrom(
    "create",
    "freeze",
    "stop",
    "wake",
    "destroy",
    "destroy-keep",
    "guest-ends",
    "reconcile",
    "time",
  ),
  which: fc.nat({ max: 5 }),
});
const step = fc.record({
  /** Begun all at once */
  actions: fc.array(action, { minLength: 1, maxLength: 6 }),
  faults: fc.subarray(POINTS, { maxLength: 2 }),
  isDiskFull: fc.boolean().map((value) => value),
  /** Turns of the event loop until the next step begins, or the daemon dies */
  turns: fc.nat({ max: 8 }),
  isCrash: fc.nat({ max: 9 }).map((value) => value === 0),
});

test("whatever happens in whatever order, a reconcile makes store, memory and driver agree", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      let world = await makeWorld();
      const worlds = [world];
      try {
        for (const { actions, faults, isDiskFull, turns, isCrash } of steps) {
          world.driver.fault = (point) => faults.includes(point);
          world.disk.isFull = isDiskFull && faults.length > 0;
          const ids = await knownIds(world);
          for (const { kind, which } of actions) void act(world, kind, ids[which % ids.length]);
          for (let turn = 0; turn < turns; turn++)
            await new Promise<void>((resolve) => setImmediate(resolve));
          if (!isCrash) continue;
          world.driver.fault = () => false;
          world = await world.crash();
          worlds.push(world);
        }
        world.driver.fault = () => false;
        world.disk.isFull = false;
        await quiet(world);
        await expectAgreement(world);
      } finally {
        for (const old of worlds.toReversed()) await old[Symbol.asyncDispose]();
      }
    }),
    { numRuns: 120 },
  );
});

async function act(world: World, kind: string, id: SandboxId | undefined): Promise<void> {
  try {
    if (kind === "create") await world.create();
    else if (kind === "reconcile") await world.sandboxes.reconcile();
    else if (kind === "time") await world.clock.advance(36 * 60_000);
    else if (id === undefined) return;
    else if (kind === "freeze") await world.sandboxes.freeze(id);
    else if (kind === "stop") await world.sandboxes.stop(id);
    else if (kind === "wake") await world.sandboxes.wake(id, { reason: "test" });
    else if (kind === "destroy") await world.sandboxes.destroy(id);
    else if (kind === "destroy-keep") await world.sandboxes.destroy(id, { keepWorkspace: true });
    else world.driver.end(id);
  } catch {
    // Refusals and injected faults are part of the game; what must hold is looked at in the end.
  }
}

async function knownIds(world: World): Promise<SandboxId[]> {
  const { items } = await world.sandboxes.list({ limit: 1000 });
  return items.map((item) => item.id as SandboxId);
}

/** Lets everything under way end, then reconciles until there is nothing left to correct. */
async function quiet(world: World): Promise<void> {
  for (let round = 0; round < 4; round++) {
    for (let turn = 0; turn < 20; turn++) await settle();
    await world.clock.advance(20_000);
    await world.sandboxes.reconcile();
  }
}

/** Rows, memory and driver tell the same story, and nothing is left over. */
async function expectAgreement(world: World): Promise<void> {
  expect(world.driver.violations).toEqual([]);
  const rows = await world.store.sandboxes.all((id, error) =>
    expect.unreachable(`${id}: ${String(error)}`),
  );
  const living = new Map([...world.driver.living].map(([id, { state }]) => [id, state]));
  const resting = rows.filter((row) => row.state === "running" || row.state === "frozen");
  expect(new Map(resting.map((row) => [row.id, row.state]))).toEqual(living);
  expect(rows.filter((row) => row.pending !== null || row.state === "creating")).toEqual([]);
  expect(new Set(rows.map((row) => row.slot)).size).toBe(rows.length);
  const ids = new Set(rows.map((row) => row.id));
  for (const id of world.driver.volumes) expect(ids.has(id)).toBe(true);
  for (const row of rows) {
    const shown = await world.sandboxes.get(row.id);
    expect([shown.state, shown.name]).toEqual([row.state, row.name]);
  }
  const started = rows.filter((row) => row.startedAtMs !== null);
  expect(started.filter((row) => !world.driver.volumes.has(row.id))).toEqual([]);
  const counts = world.sandboxes.counts();
  expect(Object.values(counts).reduce((sum, count) => sum + count, 0)).toBe(rows.length);
}
