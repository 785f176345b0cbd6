import type { DaemonEvent } from "@belljar/protocol";
import { expect, test } from "./fixture.ts";

test("events tell of a sandbox's life in order, and resume after the last one seen", async ({
  api,
  belljar,
}) => {
  const abort = new AbortController();
  const seen: DaemonEvent[] = [];
  const ready = Promise.withResolvers<void>();
  const life = { id: "" };
  const following = (async () => {
    for await (const event of belljar.events({ signal: abort.signal })) {
      if (event.sandboxId === life.id) seen.push(event);
      if (event.type === "sandbox.destroyed" && event.sandboxId === life.id) ready.resolve();
    }
  })().catch(() => undefined);
  // The stream is live from its answer's head; creates before that are not its business.
  await new Promise((resolve) => setTimeout(resolve, 200));
  life.id = (await api.create()).id;
  await api.move(life.id, "freeze");
  await api.move(life.id, "stop");
  await api.destroy(life.id);
  await ready.promise;
  abort.abort();
  await following;
  const ids = seen.map(({ id }) => id);
  expect(ids).toEqual(ids.toSorted((a, b) => a - b));
  expect(seen.at(-1)?.type).toBe("sandbox.destroyed");
  const states = seen.flatMap(({ type, data }) =>
    type === "sandbox.state" ? [data["state"]] : [],
  );
  expect(states).toEqual(expect.arrayContaining(["frozen", "stopped"]));

  const since = ids[0] ?? 0;
  const stop = new AbortController();
  const resumed: number[] = [];
  for await (const event of belljar.events({ since, signal: stop.signal })) {
    if (event.sandboxId === life.id) resumed.push(event.id);
    if (resumed.length === ids.length - 1) break;
  }
  stop.abort();
  expect(resumed).toEqual(ids.slice(1));
});

test("a stream sends a heartbeat, and a slow reader holds nobody up", async ({ api, daemon }) => {
  const { default: net } = await import("node:net");
  const slow = net.connect(daemon.port, "127.0.0.1");
  slow.write(
    `GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${daemon.token}\r\n\r\n`,
  );
  slow.pause();
  for (let index = 0; index < 20; index += 1) await api.destroy((await api.create()).id);
  expect((await api.call("GET", "/healthz")).status).toBe(200);
  slow.destroy();
});
