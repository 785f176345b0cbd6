import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { expect, test } from "vitest";
import { listening, rawApp, RawClient } from "./testing/raw.ts";
import { createWorld, type World } from "./testing/world.ts";

type Serve = (request: IncomingMessage, response: ServerResponse) => unknown;

/** A world whose port 3000 is served by `serve`, and by `other` on 3001. */
async function worldOf(serve: Serve, other: Serve = serve) {
  const world = await createWorld();
  const apps = [serve, other].map((answer) =>
    createServer((request, response) => void answer(request, response)),
  );
  for (const [index, app] of apps.entries()) world.ports.set(3000 + index, await listening(app));
  const dispose = world[Symbol.asyncDispose].bind(world);
  return Object.assign(world, {
    async [Symbol.asyncDispose]() {
      await dispose();
      for (const app of apps) {
        app.closeAllConnections();
        app.close();
      }
    },
  });
}

function head(world: World, lines = "", request = "GET /"): string {
  return `${request} HTTP/1.1\r\nHost: ${world.host()}\r\n${lines}\r\n`;
}

/** The statuses of the first `count` answers to the same bytes, sent one after the other. */
async function statuses(
  world: World,
  bytes: string,
  between: readonly (() => unknown)[],
): Promise<number[]> {
  using client = await RawClient.to(world.port);
  const found = () => [...client.text.matchAll(/HTTP\/1\.1 ([0-9]{3}) /g)];
  for (const act of [() => undefined, ...between]) {
    await act();
    const before = found().length;
    client.send(bytes);
    await client.until(() => found().length > before);
  }
  return found().map(([, status]) => Number(status));
}

test("the same head is judged anew: it is refused once the preview is private, and let in again", async () => {
  await using world = await worldOf((_request, response) => response.end("app"));
  const seen = await statuses(world, head(world), [
    () => undefined,
    () => (world.visibility = "private"),
    () => (world.visibility = "public"),
    () => world.ports.delete(3000),
  ]);
  expect(seen).toEqual([200, 200, 404, 200, 404]);
});

test("the same head with the same credential is refused once the credential is revoked", async () => {
  await using world = await worldOf((_request, response) => response.end("app"));
  world.visibility = "link";
  world.tokens.add("bj_one");
  const tokens = await statuses(world, head(world, "X-Belljar-Token: bj_one\r\n"), [
    () => undefined,
    () => world.tokens.delete("bj_one"),
  ]);
  expect(tokens).toEqual([200, 200, 404]);
  const { grants } = world.gateway;
  const link = await grants.createLink({ sandboxId: world.id, port: 3000, lifeMs: 60_000 });
  const links = await statuses(world, head(world, `X-Belljar-Token: ${link.token}\r\n`), [
    () => undefined,
    () => grants.revoke(world.id, link.id),
  ]);
  expect(links).toEqual([200, 200, 404]);
});

test("the same head wakes a sandbox that froze since", async () => {
  await using world = await worldOf((_request, response) => response.end("app"));
  const seen = await statuses(world, head(world), [
    () => undefined,
    () => (world.state = "frozen"),
    () => undefined,
  ]);
  expect(seen).toEqual([200, 200, 200, 200]);
  expect(world.events.filter((event) => event === "wake")).toEqual(["wake"]);
});

test("the same head reaches the app with another Host as soon as that is asked for", async () => {
  await using world = await worldOf((request, response) =>
    response.end(`<${request.headers.host}>`),
  );
  using client = await RawClient.to(world.port);
  client.send(head(world).repeat(2));
  await client.until((text) => text.split(`<${world.host()}>`).length === 3);
  world.rewriteHost = true;
  client.send(head(world));
  await client.until((text) => text.includes("<localhost:3000>"));
  world.rewriteHost = false;
  client.send(head(world));
  await client.until((text) => text.split(`<${world.host()}>`).length === 4);
});

test("two hosts that alternate on one connection each get their own app", async () => {
  await using world = await worldOf(
    (_request, response) => response.end("<one>"),
    (_request, response) => response.end("<two>"),
  );
  using client = await RawClient.to(world.port);
  const [one, two] = [3000, 3001].map(
    (port) => `GET / HTTP/1.1\r\nHost: ${world.host(port)}\r\n\r\n`,
  );
  client.send(`${one}${two}${one}${one}${two}`);
  const bodies = () => [...client.text.matchAll(/<(one|two)>/g)].map(([, body]) => body);
  await client.until(() => bodies().length === 5);
  expect(bodies()).toEqual(["one", "two", "one", "one", "two"]);
});

test("bodies behind the same head are told apart, wherever the bytes are split", async () => {
  const bodies: string[] = [];
  await using world = await worldOf(async (request, response) => {
    let body = "";
    for await (const part of request) body += String(part);
    bodies.push(`${request.url}:${body}`);
    response.end();
  });
  using client = await RawClient.to(world.port);
  const post = head(world, "Content-Length: 3\r\n", "POST /p");
  const bytes = `${post}aaa${post}bbb${post}\r\n\r${post}GET`;
  client.send(bytes);
  await client.until((text) => text.split("HTTP/1.1 200").length === 5);
  expect(bodies).toEqual(["/p:aaa", "/p:bbb", "/p:\r\n\r", "/p:GET"]);
  for (const at of [1, 10, post.length - 1, post.length, post.length + 1, post.length + 2]) {
    using split = await RawClient.to(world.port);
    split.send(`${post}000`);
    await split.until((text) => text.includes("HTTP/1.1 200"));
    bodies.length = 0;
    split.send(`${post}111`.slice(0, at));
    await statuses(world, head(world, "", "GET /between"), []);
    split.send(`${post}111`.slice(at));
    await split.until((text) => text.split("HTTP/1.1 200").length === 3);
    expect(bodies.at(-1)).toBe("/p:111");
  }
});

test("a head that only begins like the last one is read for itself", async () => {
  await using world = await worldOf((request, response) =>
    response.end(`<${String(request.headers["x-more"] ?? "none")}>`),
  );
  using client = await RawClient.to(world.port);
  client.send(
    head(world) + head(world, "X-More: 1\r\n") + head(world) + head(world, "X-More: 22\r\n"),
  );
  const bodies = () => [...client.text.matchAll(/<(.+)>/g)].map(([, body]) => body);
  await client.until(() => bodies().length === 4);
  expect(bodies()).toEqual(["none", "1", "none", "22"]);
  client.send(head(world, `X-More: 3\r\nX-Long: ${"l".repeat(4_000)}\r\n`).repeat(2) + head(world));
  await client.until(() => bodies().length === 7);
  expect(bodies().slice(4)).toEqual(["3", "3", "none"]);
});

test("a valid head is no pass for a broken one", async () => {
  await using world = await worldOf((_request, response) => response.end());
  const valid = head(world, "X-A: b\r\n");
  for (const broken of [valid.replace("X-A: b", "X-A : b"), valid.replace("X-A: b", "X-A: \0")]) {
    expect(broken).not.toBe(valid);
    using client = await RawClient.to(world.port);
    client.send(valid + valid + broken);
    const text = await client.untilClosed();
    expect([...text.matchAll(/^HTTP\/1\.1 ([0-9]+)/gm)].map(([, s]) => s)).toEqual([
      "200",
      "200",
      "400",
    ]);
  }
});

/** A raw app on one connection that answers each request's head with what `answers` says next. */
async function answering(answers: readonly string[]) {
  const app = await rawApp((socket) => {
    let text = "";
    let count = 0;
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      for (let end = text.indexOf("\r\n\r\n"); end !== -1; end = text.indexOf("\r\n\r\n")) {
        text = text.slice(end + 4);
        socket.write(answers[count % answers.length] ?? "", "latin1");
        count += 1;
      }
    });
  });
  const world = await createWorld();
  world.ports.set(3000, app.port);
  return { app, world };
}

test("the same answer to HEAD has no body, and to GET has one", async () => {
  const same = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
  const { app, world } = await answering([same, `${same}one`, same, `${same}two`, `${same}tri`]);
  await using _app = app;
  await using _world = world;
  using client = await RawClient.to(world.port);
  const [ask, get] = [head(world, "", "HEAD /"), head(world)];
  client.send(ask + get + ask + get + get);
  await client.until((text) => text.endsWith("tri"));
  expect(client.text).toBe(`${same}${same}one${same}${same}two${same}tri`);
  expect(world.dialCount).toBe(1);
});

test("answers of one connection are framed by their own head, and sent as each client needs", async () => {
  const two = "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\n\r\n";
  const three = "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 3\r\n\r\n";
  const { app, world } = await answering([`${two}aa`, `${two}bb`, `${three}ccc`, `${two}dd`]);
  await using _app = app;
  await using _world = world;
  using client = await RawClient.to(world.port);
  client.send(head(world).repeat(3));
  await client.until((text) => text.endsWith("ccc"));
  expect(client.text).toBe(`${two}aa${two}bb${three}ccc`);
  using old = await RawClient.to(world.port);
  old.send(`GET / HTTP/1.0\r\nHost: ${world.host()}\r\nConnection: keep-alive\r\n\r\n`);
  await old.until((text) => text.endsWith("dd"));
  expect(old.text).toContain("Connection: keep-alive\r\n");
  expect(client.text).not.toContain("Connection");
  using last = await RawClient.to(world.port);
  last.send(head(world, "Connection: close\r\n"));
  expect(await last.untilClosed()).toBe(
    "HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\naa",
  );
  expect(world.dialCount).toBe(1);
});

test("a cookie for one spelling of a host is confined to that spelling", async () => {
  const world0 = { host: "" };
  const app = await rawApp((socket) =>
    socket.on("data", () =>
      socket.write(
        `HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Domain=${world0.host}\r\nContent-Length: 0\r\n\r\n`,
      ),
    ),
  );
  await using _app = app;
  await using world = await createWorld();
  world.ports.set(3000, app.port);
  world0.host = world.host();
  using client = await RawClient.to(world.port);
  const other = `s-${world.id}-3000.preview.localhost`;
  for (const host of [world.host(), world.host(), other, other, world.host()])
    client.send(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  await client.until((text) => text.split("HTTP/1.1 200").length === 6);
  const cookies = [...client.text.matchAll(/Set-Cookie: (.*)\r\n/gi)].map(([, value]) => value);
  const own = `a=b; Domain=${world.host()}`;
  expect(cookies).toEqual([own, own, "a=b", "a=b", own]);
  expect(world.dialCount).toBe(1);
});
