import { expect, test } from "vitest";
import { makeWorld } from "./testing/world.ts";

const MINUTE = 60_000;

test("a sandbox without activity is frozen after its idle time and stopped after its frozen time", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.clock.advance(34 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  await world.clock.advance(2 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
  await world.clock.advance(25 * 60 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "stopped", error: null });
});

test("activity starts the idle time anew", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  for (let round = 0; round < 4; round++) {
    await world.clock.advance(30 * MINUTE);
    world.sandboxes.touch(id);
  }
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  await world.clock.advance(36 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("an open stream without traffic does not keep a sandbox awake", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  world.sandboxes.opened(id);
  await world.clock.advance(36 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("what runs a command is never idle, and is once it has ended", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  const command = Promise.withResolvers<void>();
  const work = world.sandboxes.withActivity(id, () => command.promise);
  await world.clock.advance(300 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  command.resolve();
  await work;
  await world.clock.advance(36 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("a quiet command on a stream keeps its sandbox awake until it is let go", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  const busy = world.sandboxes.busy(id);
  await world.clock.advance(300 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  busy[Symbol.dispose]();
  await world.clock.advance(36 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("keepAlive() holds off idleness until its time", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.sandboxes.keepAlive(id, 120 * MINUTE);
  await world.clock.advance(119 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  await world.clock.advance(2 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("null means never", async () => {
  await using world = await makeWorld();
  const id = await world.create({ timeouts: { idleMs: null } });
  await world.clock.advance(48 * 60 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
});

test("the end of life comes even to the busy, and destroys only where that was asked for", async () => {
  await using world = await makeWorld();
  const stopped = await world.create({ timeouts: { lifeMs: 10 * MINUTE } });
  const destroyed = await world.create({ timeouts: { lifeMs: 10 * MINUTE, onLifeEnd: "destroy" } });
  const forever = Promise.withResolvers<void>();
  void world.sandboxes.withActivity(stopped, () => forever.promise);
  await world.clock.advance(11 * MINUTE);
  expect(await world.sandboxes.get(stopped)).toMatchObject({ state: "stopped" });
  await expect(world.sandboxes.get(destroyed)).rejects.toMatchObject({ code: "SANDBOX_NOT_FOUND" });
  forever.resolve();
});

test("a freeze that fails is tried again", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  world.driver.fault = (point) => point === "freeze";
  await world.clock.advance(36 * MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "running" });
  world.driver.fault = () => false;
  await world.clock.advance(MINUTE);
  expect(await world.sandboxes.get(id)).toMatchObject({ state: "frozen" });
});

test("when it was last used survives a restart", async () => {
  await using world = await makeWorld();
  const id = await world.create();
  await world.clock.advance(10 * MINUTE);
  world.sandboxes.touch(id);
  const { lastActiveAt } = await world.sandboxes.get(id);
  await world.clock.advance(MINUTE);
  await using next = await world.crash();
  expect((await next.sandboxes.get(id)).lastActiveAt).toBe(lastActiveAt);
});
