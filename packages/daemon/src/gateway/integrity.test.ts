import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, request as httpRequest } from "node:http";
import { expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { listening } from "./testing/raw.ts";
import { createWorld } from "./testing/world.ts";

const CLIENT_COUNT = 8;

/** A world whose app sends back every body and every message. */
async function echoing() {
  const app = createServer((request, response) => request.pipe(response));
  const sockets = new WebSocketServer({ server: app });
  sockets.on("connection", (socket) =>
    socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary })),
  );
  const world = await createWorld();
  world.ports.set(3000, await listening(app));
  const dispose = world[Symbol.asyncDispose].bind(world);
  return Object.assign(world, {
    async [Symbol.asyncDispose]() {
      await dispose();
      app.closeAllConnections();
      app.close();
    },
  });
}

function sum(parts: readonly Buffer[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** Sends `parts` and reads what comes back, resting now and then so that bytes pile up on the way. */
async function echo(
  port: number,
  headers: Record<string, string>,
  parts: readonly Buffer[],
): Promise<Buffer[]> {
  const sent = httpRequest({ port, method: "POST", headers });
  const response = once(sent, "response") as Promise<[IncomingMessage]>;
  const send = async () => {
    for (const part of parts) if (!sent.write(part)) await once(sent, "drain");
    sent.end();
  };
  const sending = send();
  const [answer] = await response;
  const back: Buffer[] = [];
  for await (const part of answer as AsyncIterable<Buffer>) {
    back.push(part);
    if (back.length % 8 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await sending;
  return back;
}

for (const [name, partBytes, count] of [
  ["large", 256 * 1024, 24],
  ["middling", 20_000, 200],
  ["small", 700, 400],
] as const) {
  test(`${name} bodies of many clients at once come back as they were sent`, async () => {
    await using world = await echoing();
    const run = async (index: number) => {
      const parts = Array.from({ length: count }, () => randomBytes(partBytes + index));
      const length = String(parts.reduce((total, part) => total + part.length, 0));
      const framing = index % 2 === 0 ? { "content-length": length } : undefined;
      const back = await echo(world.port, { host: world.host(), ...framing }, parts);
      expect(sum(back)).toBe(sum(parts));
    };
    await Promise.all(Array.from({ length: CLIENT_COUNT }, (_, index) => run(index)));
  });
}

test("WebSocket messages of many clients at once come back as they were sent", async () => {
  await using world = await echoing();
  const run = async (index: number) => {
    const socket = new WebSocket(`ws://127.0.0.1:${world.port}/`, {
      headers: { host: world.host() },
    });
    await once(socket, "open");
    const messages = Array.from({ length: 60 }, (_, at) => randomBytes(1 + at * 1_500 + index));
    const back: Buffer[] = [];
    const { promise: done, resolve } = Promise.withResolvers<undefined>();
    socket.on("message", (data: Buffer) => {
      back.push(data);
      if (back.length === messages.length) resolve(undefined);
    });
    for (const message of messages) socket.send(message);
    await done;
    expect(sum(back)).toBe(sum(messages));
    socket.terminate();
  };
  await Promise.all(Array.from({ length: CLIENT_COUNT }, (_, index) => run(index)));
});
