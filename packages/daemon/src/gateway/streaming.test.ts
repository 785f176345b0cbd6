import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { request as httpRequest } from "node:http";
import { once } from "node:events";
import { expect, test } from "vitest";
import { listening, rawApp, RawClient } from "./testing/raw.ts";
import { createWorld, type World } from "./testing/world.ts";

async function worldWith(
  serve: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>,
): Promise<World & { app: Server }> {
  const app = createServer(
    { keepAliveTimeout: 60_000 },
    (request, response) => void serve(request, response),
  );
  const port = await listening(app);
  const world = await createWorld();
  world.ports.set(3000, port);
  const dispose = world[Symbol.asyncDispose].bind(world);
  return Object.assign(world, {
    app,
    async [Symbol.asyncDispose]() {
      await dispose();
      app.closeAllConnections();
      app.close();
    },
  });
}

test("a gibibyte streams up and down without being held in memory", async () => {
  const size = 1024 ** 3;
  const chunk = Buffer.alloc(256 * 1024, 7);
  await using world = await worldWith(async (request, response) => {
    if (request.method === "POST") {
      let received = 0;
      for await (const part of request) received += (part as Buffer).length;
      response.end(String(received));
      return;
    }
    response.writeHead(200, { "content-length": size });
    for (let sent = 0; sent < size; sent += chunk.length)
      if (!response.write(chunk)) await once(response, "drain");
    response.end();
  });
  const headers = { host: world.host() };
  const before = process.memoryUsage().rss;
  const down = httpRequest({ port: world.port, headers }).end();
  const [answer] = (await once(down, "response")) as [IncomingMessage];
  let received = 0;
  for await (const part of answer) received += (part as Buffer).length;
  expect(received).toBe(size);
  const up = httpRequest({
    port: world.port,
    method: "POST",
    headers: { ...headers, "content-length": size / 4 },
  });
  for (let sent = 0; sent < size / 4; sent += chunk.length)
    if (!up.write(chunk)) await once(up, "drain");
  up.end();
  const [stored] = (await once(up, "response")) as [IncomingMessage];
  let text = "";
  for await (const part of stored) text += String(part);
  expect(text).toBe(String(size / 4));
  expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024);
});

test("a client that does not read stops the app from being read", async () => {
  let sent = 0;
  const { promise: stalled, resolve: stall } = Promise.withResolvers<number>();
  await using world = await worldWith(async (_request, response) => {
    response.writeHead(200, { "content-type": "application/octet-stream" });
    const chunk = Buffer.alloc(64 * 1024);
    for (;;) {
      const isFlowing = response.write(chunk);
      sent += chunk.length;
      if (isFlowing) continue;
      const outcome = await Promise.race([
        once(response, "drain").then(() => "drain"),
        quietFor(300),
      ]);
      if (outcome !== "drain") return stall(sent);
    }
  });
  using client = await RawClient.to(world.port);
  client.socket.pause();
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  expect(await stalled).toBeLessThan(64 * 1024 * 1024);
});

test("an app that does not read stops the client from being read", async () => {
  await using app = await rawApp((socket) => socket.pause());
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  const client = httpRequest({ port: world.port, method: "POST", headers: { host: world.host() } });
  client.on("error", () => undefined);
  let sent = 0;
  for (;;) {
    sent += 64 * 1024;
    if (client.write(Buffer.alloc(64 * 1024))) continue;
    const outcome = await Promise.race([once(client, "drain").then(() => "drain"), quietFor(300)]);
    if (outcome !== "drain") break;
  }
  client.destroy();
  expect(sent).toBeLessThan(64 * 1024 * 1024);
});

test("server-sent events pass one by one, and the client's leaving reaches the app", async () => {
  const { promise: gone, resolve: leave } = Promise.withResolvers<undefined>();
  let push: (text: string) => void = () => undefined;
  await using world = await worldWith((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    push = (text) => response.write(text);
    response.on("close", () => leave(undefined));
  });
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await client.until((text) => text.includes("\r\n\r\n"));
  push("data: 1\n\n");
  await client.until((text) => text.includes("data: 1\n\n"));
  push("data: 2\n\n");
  await client.until((text) => text.includes("data: 2\n\n"));
  client.socket.end();
  await gone;
  await expect.poll(() => world.events.filter((event) => event === "closed").length).toBe(1);
});

test("an app that dies in the middle of a body cuts the client off", async () => {
  await using world = await worldWith((request, response) => {
    response.writeHead(200, { "content-length": 100 });
    response.write("half", () => request.socket.destroy());
  });
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  const text = await client.untilClosed();
  expect(client.isClosed).toBe(true);
  expect(text.endsWith("half") || text === "").toBe(true);
});

test("an answer that overtakes its request's body is delivered, and the connection ends", async () => {
  await using world = await worldWith((_request, response) => {
    response.writeHead(413, { connection: "close" });
    response.end("too large");
  });
  using client = await RawClient.to(world.port);
  client.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 1000000\r\n\r\nbegin`);
  const text = await client.untilClosed();
  expect(text).toMatch(/^HTTP\/1\.1 413 /);
  expect(text).toContain("too large");
  expect(text).toContain("Connection: close");
});

test("Expect: 100-continue is the app's to answer", async () => {
  await using world = await worldWith((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => {
      body += part.toString();
    });
    request.on("end", () => response.end(`got ${body}`));
  });
  using client = await RawClient.to(world.port);
  client.send(
    `POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n`,
  );
  expect(await client.until((all) => all.includes("\r\n\r\n"))).toMatch(/^HTTP\/1\.1 100 /);
  client.send("ok");
  expect(await client.until((all) => all.includes("got ok"))).toMatch(/HTTP\/1\.1 200 OK/);
});

test("HEAD, 204 and 304 have no body, and the connection goes on", async () => {
  await using world = await worldWith((request, response) => {
    if (request.url === "/204") response.writeHead(204).end();
    else if (request.url === "/304") response.writeHead(304, { etag: '"x"' }).end();
    else response.writeHead(200, { "content-length": 5 }).end("12345");
  });
  using client = await RawClient.to(world.port);
  const host = world.host();
  client.send(`HEAD / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  expect(await client.until((text) => text.endsWith("\r\n\r\n"))).toMatch(/Content-Length: 5/i);
  client.send(`GET /204 HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await client.until((text) => text.includes(" 204 "));
  client.send(`GET /304 HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await client.until((text) => text.includes(" 304 "));
  client.send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  expect(await client.until((text) => text.endsWith("12345"))).toMatch(/12345$/);
});

test("a client of HTTP/1.0 gets no chunks and an end by closing", async () => {
  await using world = await worldWith((_request, response) => {
    response.write("one");
    response.end("two");
  });
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.0\r\nHost: ${world.host()}\r\n\r\n`);
  const text = await client.untilClosed();
  expect(text).toMatch(/\r\n\r\nonetwo$/);
  expect(text).not.toMatch(/chunked/i);
});

test("a body that ends by closing becomes chunks, so that the connection goes on", async () => {
  await using app = await rawApp((socket) =>
    socket.on("data", () => socket.end("HTTP/1.0 200 OK\r\n\r\nhello")),
  );
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await client.until((all) => all.endsWith("0\r\n\r\n"));
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  const text = await client.until((all) => all.split("5\r\nhello").length === 3);
  expect(text).toMatch(/Transfer-Encoding: chunked/);
});

test("connections to the app are reused, and a stale one is replaced without the client noticing", async () => {
  let count = 0;
  await using app = await rawApp((socket, index) => {
    socket.on("data", () => {
      count += 1;
      // The first connection answers once and closes when it is asked again, like a server whose keep-alive ran out.
      if (index === 0 && count === 3) socket.destroy();
      else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n${index}`);
    });
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  const get = async () => {
    using client = await RawClient.to(world.port);
    client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
    return (await client.until((text) => /\r\n\r\n./.test(text))).at(-1);
  };
  expect(await get()).toBe("0");
  expect(await get()).toBe("0");
  expect(world.dialCount).toBe(1);
  expect(await get()).toBe("1");
  expect(world.dialCount).toBe(2);
});

test("a stale connection that cannot be replaced is told, not hung on", async () => {
  const app = await rawApp((socket) => {
    let count = 0;
    socket.on("data", () => {
      count += 1;
      if (count === 1) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      else socket.destroy();
    });
  });
  await using world = await createWorld({ limits: { connectGraceMs: 100 } });
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await client.until((text) => text.endsWith("\r\n\r\n"));
  world.ports.set(3000, 1);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  expect(await client.until((text) => text.includes("PREVIEW_"))).toContain("PREVIEW_UNREACHABLE");
  await app[Symbol.asyncDispose]();
});

test("a POST is never sent twice", async () => {
  let posts = 0;
  await using app = await rawApp((socket) => {
    socket.on("data", (chunk: Buffer) => {
      if (!chunk.toString("latin1").startsWith("POST"))
        socket.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
      else {
        posts += 1;
        socket.destroy();
      }
    });
  });
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await client.until((text) => text.endsWith("\r\n\r\n"));
  client.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 2\r\n\r\nhi`);
  expect(await client.until((text) => text.includes("PREVIEW_"))).toContain("PREVIEW_APP_CLOSED");
  expect(posts).toBe(1);
});

test("a head that does not end, an idle connection and a stuck body each run into their time", async () => {
  await using world = await createWorld({
    limits: { headTimeoutMs: 300, idleTimeoutMs: 300, bodyProgressWindowMs: 300 },
  });
  const app = createServer((request, response) => {
    request.resume();
    request.on("end", () => response.end("ok"));
  });
  world.ports.set(3000, await listening(app));
  using slow = await RawClient.to(world.port);
  slow.send("GET / HTTP/1.1\r\nHo");
  expect(await slow.untilClosed()).toMatch(/^HTTP\/1\.1 408 /);
  using idle = await RawClient.to(world.port);
  idle.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  expect(await idle.untilClosed()).toMatch(/ok$/);
  using stuck = await RawClient.to(world.port);
  stuck.send(`POST / HTTP/1.1\r\nHost: ${world.host()}\r\nContent-Length: 9\r\n\r\nx`);
  expect(await stuck.untilClosed()).toMatch(/^HTTP\/1\.1 408 /);
  app.closeAllConnections();
  app.close();
});

test("connections beyond the limit are turned away with a reason", async () => {
  await using world = await createWorld({ limits: { connectionCountMax: 2 } });
  using first = await RawClient.to(world.port);
  using second = await RawClient.to(world.port);
  first.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  await first.status();
  using third = await RawClient.to(world.port);
  expect(await third.untilClosed()).toContain("HTTP_CONNECTION_LIMIT");
  second.socket.destroy();
  await expect
    .poll(async () => {
      using again = await RawClient.to(world.port);
      again.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
      return await again.status();
    })
    .toBe(200);
});

test("close() lets a request in flight end and refuses new ones", async () => {
  let finish: () => void = () => undefined;
  const { promise: asked, resolve: ask } = Promise.withResolvers<undefined>();
  await using world = await worldWith((_request, response) => {
    finish = () => response.end("done");
    ask(undefined);
  });
  using idle = await RawClient.to(world.port);
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await asked;
  const closed = world.gateway.close({ graceMs: 20_000 });
  await idle.untilClosed();
  finish();
  const text = await client.untilClosed();
  expect(text).toMatch(/done$/);
  expect(text).toContain("Connection: close");
  await closed;
  await expect(RawClient.to(world.port)).rejects.toThrow();
});

async function quietFor(delayMs: number): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  setTimeout(() => resolve("quiet"), delayMs);
  return await promise;
}
