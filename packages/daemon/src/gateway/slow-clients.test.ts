import { createServer } from "node:http";
import type { Socket } from "node:net";
import { expect, test } from "vitest";
import { listening, rawApp, RawClient } from "./testing/raw.ts";
import { createWorld } from "./testing/world.ts";

/** More than the kernel takes of one answer for a client that does not read. */
const LARGE_BYTES = 24 * 1024 * 1024;

/** An app that answers every request on a connection with `answer`, however they arrive. */
async function answering(answer: (socket: Socket) => void) {
  return await rawApp((socket) => {
    let text = "";
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end !== -1; end = text.indexOf("\r\n\r\n")) {
        text = text.slice(end + 4);
        answer(socket);
      }
    });
  });
}

test("a client that asks on and on and reads nothing is not answered on and on", async () => {
  let answered = 0;
  const body = "x".repeat(32_000);
  await using app = await answering((socket) => {
    answered += 1;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.socket.pause();
  const count = 4_000;
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`.repeat(count));
  let before = -1;
  await expect
    .poll(
      () => {
        const isQuiet = answered > 0 && answered === before;
        before = answered;
        return isQuiet;
      },
      { interval: 300, timeout: 10_000 },
    )
    .toBe(true);
  expect(answered).toBeLessThan(count / 2);
  client.socket.resume();
  await expect.poll(() => answered, { timeout: 10_000 }).toBe(count);
});

test("refusals are not piled up either for a client that reads nothing", async () => {
  await using world = await createWorld({ limits: { clientStallTimeoutMs: 500 } });
  using client = await RawClient.to(world.port);
  client.socket.pause();
  const flood = "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n".repeat(200_000);
  client.send(flood);
  client.socket.on("close", () => undefined);
  // It is cut off for taking nothing; without that every answer would wait in memory.
  await expect
    .poll(() => client.socket.destroyed || client.socket.errored !== null, { timeout: 10_000 })
    .toBe(true);
});

test("a slow reader gets a whole answer, also when the connection closes after it", async () => {
  let answered = 0;
  const body = "x".repeat(48_000);
  await using app = await answering((socket) => {
    answered += 1;
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
  });
  await using world = await createWorld({ limits: { lingerTimeoutMs: 50 } });
  world.ports.set(3000, app.port);
  const get = (more: string) => `GET / HTTP/1.1\r\nHost: ${world.host()}\r\n${more}\r\n`;
  const isQuiet = async () => {
    let before = -1;
    await expect
      .poll(() => answered === before || ((before = answered), false), {
        interval: 500,
        timeout: 10_000,
      })
      .toBe(true);
    return answered;
  };
  using probe = await RawClient.to(world.port);
  probe.socket.pause();
  probe.send(get("").repeat(1_000));
  const fitting = await isQuiet();
  // Around the number that fits, the last answer waits inside the gateway when the connection is to be closed.
  for (const count of [fitting - 2, fitting - 1, fitting, fitting + 1]) {
    answered = 0;
    using client = await RawClient.to(world.port);
    client.socket.pause();
    client.send(get("").repeat(count - 1) + get("Connection: close\r\n"));
    await isQuiet();
    client.socket.resume();
    const text = await client.untilClosed();
    expect(text.length - count * body.length).toBeGreaterThan(0);
  }
}, 60_000);

test("a steady trickle of a body is no stop, and silence before an answer is", async () => {
  const app = createServer((request, response) => {
    let size = 0;
    request.on("data", (part: Buffer) => {
      size += part.length;
    });
    request.on("end", () => response.end(`got ${size}`));
  });
  await using world = await createWorld({ limits: { bodyProgressWindowMs: 600 } });
  world.ports.set(3000, await listening(app));
  using client = await RawClient.to(world.port);
  client.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 12\r\n\r\n`);
  const drip = setInterval(() => client.send("x"), 200);
  expect(await client.until((text) => text.includes("got 12"))).toContain("got 12");
  clearInterval(drip);
  using silent = await RawClient.to(world.port);
  silent.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 12\r\n\r\nx`);
  expect(await silent.untilClosed()).toMatch(/^HTTP\/1\.1 408 /);
  app.closeAllConnections();
  app.close();
});

test("a body that streams both ways may rest once the app has begun to answer", async () => {
  const app = createServer((request, response) => {
    response.flushHeaders();
    request.on("data", (part: Buffer) => response.write(`echo ${part.toString()}\n`));
    request.on("end", () => response.end("end"));
  });
  await using world = await createWorld({ limits: { bodyProgressWindowMs: 300 } });
  world.ports.set(3000, await listening(app));
  using client = await RawClient.to(world.port);
  client.send(
    `POST / HTTP/1.1\r\nHost: ${world.host()}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n`,
  );
  await client.until((text) => text.includes("echo a"));
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  client.send("1\r\nb\r\n0\r\n\r\n");
  expect(await client.untilClosed()).toContain("echo b");
  app.closeAllConnections();
  app.close();
});

test("a body that stops coming is noticed although the answer stalled in between", async () => {
  // Answers at once, more than the client takes, and reads the body on meanwhile.
  await using app = await rawApp((socket) => {
    socket.resume();
    socket.once("data", () =>
      socket.write(
        Buffer.concat([
          Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${LARGE_BYTES}\r\n\r\n`),
          Buffer.alloc(LARGE_BYTES),
        ]),
      ),
    );
  });
  await using world = await createWorld({ limits: { clientStallTimeoutMs: 400 } });
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.socket.pause();
  client.send(
    `POST / HTTP/1.1\r\nHost: ${world.host()}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n`,
  );
  // Sending on does not count as taking the answer.
  const drip = setInterval(() => client.send("1\r\nb\r\n"), 100);
  await expect.poll(() => world.events.includes("closed"), { timeout: 5_000 }).toBe(true);
  clearInterval(drip);
});

test("an app that takes nothing of a body is given up after a while", async () => {
  await using app = await rawApp((socket) => socket.pause());
  await using world = await createWorld({ limits: { responseTimeoutMs: 500 } });
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: ${LARGE_BYTES}\r\n\r\n`);
  client.send("x".repeat(LARGE_BYTES));
  await expect.poll(() => world.events.includes("closed"), { timeout: 5_000 }).toBe(true);
  expect(await client.untilClosed()).toMatch(/^(HTTP\/1\.1 504 |$)/);
});

test("an answer of the API may take longer than an app's may", async () => {
  await using app = await rawApp(() => undefined);
  const apiServer = createServer((_request, response) => {
    setTimeout(() => response.end("late"), 1500);
  });
  await using world = await createWorld({ apiServer, limits: { responseTimeoutMs: 300 } });
  world.ports.set(3000, app.port);
  using visitor = await RawClient.to(world.port);
  visitor.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\nConnection: close\r\n\r\n`);
  using client = await RawClient.to(world.port);
  client.send("GET /v1/late HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  expect(await visitor.untilClosed()).toMatch(/^HTTP\/1\.1 504 /);
  expect(await client.untilClosed()).toMatch(/^HTTP\/1\.1 200 [^]*late/);
});
