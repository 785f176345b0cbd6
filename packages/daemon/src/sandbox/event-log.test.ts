import { expect, test } from "vitest";
import { settle } from "./testing/fake-clock.ts";
import { makeWorld } from "./testing/world.ts";

async function take<Item>(items: AsyncIterable<Item>, count: number): Promise<Item[]> {
  const taken: Item[] = [];
  for await (const item of items) {
    taken.push(item);
    if (taken.length === count) break;
  }
  return taken;
}

test("stream() gives stored events and then new ones, each once, in order", async () => {
  await using world = await makeWorld();
  for (let index = 0; index < 700; index++)
    await world.events.record("sandbox.updated", null, { index });
  const reading = take(world.events.stream(0), 1000);
  await settle();
  for (let index = 700; index < 1000; index++)
    await world.events.record("sandbox.updated", null, { index });
  const seen = await reading;
  expect(seen.map((event) => event.data["index"])).toEqual(
    Array.from({ length: 1000 }, (_, index) => index),
  );
  expect(new Set(seen.map((event) => event.id)).size).toBe(1000);
});

test("stream() resumes after any id without a repeat or a hole", async () => {
  await using world = await makeWorld();
  for (let index = 0; index < 20; index++)
    await world.events.record("sandbox.updated", null, { index });
  const first = await take(world.events.stream(0), 7);
  const rest = await take(world.events.stream(first.at(-1)?.id ?? 0), 13);
  expect([...first, ...rest].map((event) => event.data["index"])).toEqual(
    Array.from({ length: 20 }, (_, i) => i),
  );
});

test("stream() ends when it is asked to, waiting or not", async () => {
  await using world = await makeWorld();
  const stop = new AbortController();
  const reading = take(world.events.stream(0, { signal: stop.signal }), 10);
  await settle();
  stop.abort();
  expect(await reading).toEqual([]);
});

test("stream() of one sandbox leaves the others out", async () => {
  await using world = await makeWorld();
  const a = await world.create();
  const b = await world.create();
  const mine = await take(world.events.stream(0, { sandboxId: b }), 2);
  expect(mine.map((event) => [event.sandboxId, event.type])).toEqual([
    [b, "sandbox.created"],
    [b, "sandbox.state"],
  ]);
  expect((await world.events.since(0, { sandboxId: a })).length).toBe(2);
});

test("an id from another store's future starts with what comes", async () => {
  await using world = await makeWorld();
  const reading = take(world.events.stream(10_000), 1);
  await settle();
  await world.events.record("sandbox.updated", null, { fresh: true });
  expect((await reading)[0]?.data).toEqual({ fresh: true });
});

test("events are numbered on after a restart, and old ones are forgotten", async () => {
  await using world = await makeWorld({ settings: { eventsRetained: 100 } });
  for (let index = 0; index < 600; index++)
    await world.events.record("sandbox.updated", null, { index });
  await settle();
  const newestId = world.events.newestId;
  await using next = await world.crash();
  expect(next.events.newestId).toBe(newestId);
  const kept = await next.events.since(0, { limit: 1000 });
  expect(kept.length).toBeLessThan(300);
  await next.events.record("sandbox.updated", null, {});
  expect(next.events.newestId).toBe(newestId + 1);
});

test("a full disk loses the event and not the log", async () => {
  await using world = await makeWorld();
  world.disk.isFull = true;
  await expect(world.events.record("sandbox.updated", null, {})).rejects.toMatchObject({
    code: "STORAGE_FAILED",
  });
  world.disk.isFull = false;
  const reading = take(world.events.stream(world.events.newestId), 1);
  await world.events.record("sandbox.updated", null, { after: true });
  expect((await reading)[0]?.data).toEqual({ after: true });
});
