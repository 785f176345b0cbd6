import { createServer, type Server } from "node:http";
import { BelljarError } from "@belljar/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { newSandboxId } from "../kernel/index.ts";
import { listening, RawClient } from "./testing/raw.ts";
import { createWorld, type World } from "./testing/world.ts";

const app: Server = createServer((request, response) =>
  response.end(JSON.stringify(request.headers)),
);
const sockets = new WebSocketServer({ server: app });
sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
const place = { port: 0 };

beforeAll(async () => {
  place.port = await listening(app);
});
afterAll(() => {
  app.closeAllConnections();
  app.close();
});

async function ready(options: Parameters<typeof createWorld>[0] = {}): Promise<World> {
  const world = await createWorld(options);
  world.ports.set(3000, place.port);
  return world;
}

interface Ask {
  host?: string;
  path?: string;
  headers?: Record<string, string>;
  method?: string;
  body?: string;
}

async function ask(
  world: World,
  options: Ask = {},
): Promise<{ status: number; text: string; body: string }> {
  const { host = world.host(), path = "/", headers = {}, method = "GET", body = "" } = options;
  using client = await RawClient.to(world.port);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  if (body !== "") lines.push(`Content-Length: ${Buffer.byteLength(body)}\r\n`);
  client.send(
    `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${lines.join("")}\r\n${body}`,
  );
  const text = await client.untilClosed();
  return {
    status: Number(text.slice(9, 12)),
    text,
    body: text.slice(text.indexOf("\r\n\r\n") + 4),
  };
}

async function enter(world: World, token: string, more: Ask = {}) {
  return await ask(world, {
    method: "POST",
    path: "/.belljar/session",
    body: JSON.stringify({ token, to: "/x?y#z" }),
    headers: {
      Origin: `http://${more.host ?? world.host()}`,
      "Content-Type": "application/json",
      ...more.headers,
    },
    ...(more.host === undefined ? {} : { host: more.host }),
  });
}

const cookieOf = (text: string) => /Set-Cookie: ([^;]+)/.exec(text)?.[1] ?? "";
const browser = { Accept: "text/html", "Sec-Fetch-Mode": "navigate" };

test("50 visitors of a sleeping sandbox cause one wake and all get the app", async () => {
  await using world = await ready();
  world.state = "frozen";
  const { promise, resolve } = Promise.withResolvers<undefined>();
  world.wake = async () => {
    await promise;
    world.state = "running";
  };
  const visits = Array.from({ length: 50 }, () => ask(world));
  await expect.poll(() => world.events.filter((event) => event === "opened").length).toBe(50);
  resolve(undefined);
  expect((await Promise.all(visits)).map(({ status }) => status)).toEqual(Array(50).fill(200));
  expect(world.events.filter((event) => event === "wake").length).toBe(1);
  expect(world.events.filter((event) => event === "closed").length).toBe(50);
});

test("when the one wake is refused, all 50 visitors are told so", async () => {
  await using world = await ready();
  world.state = "stopped";
  const { promise, reject } = Promise.withResolvers<undefined>();
  world.wake = async () => {
    await promise;
  };
  const visits = Array.from({ length: 50 }, () => ask(world));
  await expect.poll(() => world.events.filter((event) => event === "opened").length).toBe(50);
  reject(new BelljarError("MEMORY_EXHAUSTED", "/secret/path is full"));
  for (const { status, text } of await Promise.all(visits)) {
    expect(status).toBe(503);
    expect(text).toContain("X-Belljar-Reason: MEMORY_EXHAUSTED");
    expect(text).toContain("Retry-After:");
    expect(text).not.toContain("secret");
  }
  expect(world.events.filter((event) => event === "wake").length).toBe(1);
});

test("a POST is held with its body while the sandbox wakes", async () => {
  await using world = await ready();
  world.state = "frozen";
  world.ports.set(
    3000,
    await listening(createServer((request, response) => request.pipe(response))),
  );
  expect((await ask(world, { method: "POST", body: "x".repeat(200_000) })).body).toContain(
    "x".repeat(1_000),
  );
});

test("a held visitor who leaves is forgotten, and the wake goes on", async () => {
  await using world = await ready();
  world.state = "frozen";
  const { promise, resolve } = Promise.withResolvers<undefined>();
  world.wake = async () => {
    await promise;
    world.state = "running";
  };
  using client = await RawClient.to(world.port);
  client.send(`GET / HTTP/1.1\r\nHost: ${world.host()}\r\n\r\n`);
  await expect.poll(() => world.events.includes("wake")).toBe(true);
  client.socket.destroy();
  await expect.poll(() => world.events.includes("closed")).toBe(true);
  resolve(undefined);
  expect((await ask(world)).status).toBe(200);
  expect(world.events.filter((event) => event === "wake").length).toBe(1);
});

test("a browser that would wait sees the boot page, whose events end with ready", async () => {
  await using world = await ready({ limits: { bootPageAfterMs: 20 } });
  world.state = "stopped";
  const { promise, resolve } = Promise.withResolvers<undefined>();
  world.wake = async () => {
    await promise;
    world.state = "running";
  };
  const page = await ask(world, { headers: browser });
  expect(page.status).toBe(503);
  expect(page.text).toContain("EventSource");
  expect(page.text).not.toContain(world.id);
  const boot = ask(world, { path: "/.belljar/boot" });
  await expect.poll(() => world.events.filter((event) => event === "wake").length).toBe(1);
  resolve(undefined);
  expect((await boot).body).toMatch(/event: state\ndata: {"state":"ready"/);
  expect((await ask(world, { headers: browser })).status).toBe(200);
  expect(world.events.filter((event) => event === "wake").length).toBe(1);
});

test("a port that nothing listens on gives a 502 that names it, and one that starts late is waited for", async () => {
  await using world = await ready({ limits: { connectGraceMs: 150 } });
  const late = createServer((_request, response) => response.end("late"));
  world.ports.set(4000, 1);
  const closed = await ask(world, { host: world.host(4000) });
  expect(closed.status).toBe(502);
  expect(closed.body).toContain("nothing listens on port 4000");
  world.state = "frozen";
  const waiting = ask(world, { host: world.host(4000) });
  await expect.poll(() => world.dialCount).toBeGreaterThan(3);
  world.ports.set(4000, await listening(late));
  expect((await waiting).body).toContain("late");
  late.closeAllConnections();
  late.close();
});

test("what is ours to say comes from the API and from no app", async () => {
  const speak = createServer((_request, response) =>
    response.setHeader("X-Belljar-File-Size", "5").end("ok"),
  );
  await using world = await ready({ apiServer: speak });
  expect((await ask(world, { host: "localhost" })).text).toContain("X-Belljar-File-Size: 5");
  const app = createServer((_request, response) =>
    response.setHeader("X-Belljar-Reason", "OK").end("ok"),
  );
  world.ports.set(3000, await listening(app));
  expect((await ask(world)).text).not.toContain("X-Belljar-Reason");
  app.closeAllConnections();
  app.close();
});

test("over https only the cookie that no other host can set opens a preview", async () => {
  await using world = await ready({ trustedProxies: ["127.0.0.1"] });
  world.visibility = "private";
  const target = { sandboxId: world.id, port: 3000 };
  const { grants } = world.gateway;
  const { token } = await grants.enter((await grants.createCode(target)).token, target);
  const https = { "X-Forwarded-Proto": "https" };
  const plain = { Cookie: `belljar-preview=${token}` };
  expect((await ask(world, { headers: { ...https, ...plain } })).status).toBe(404);
  expect((await ask(world, { headers: plain })).status).toBe(200);
  const prefixed = { Cookie: `__Host-belljar=${token}` };
  expect((await ask(world, { headers: { ...https, ...prefixed } })).status).toBe(200);
});

test("a WebSocket that was let in while its link was being revoked is cut", async () => {
  await using world = await ready();
  world.visibility = "link";
  const { grants } = world.gateway;
  const link = await grants.createLink({ sandboxId: world.id, port: 3000, lifeMs: 60_000 });
  const { promise: asked, resolve: ask } = Promise.withResolvers<undefined>();
  const { promise: mayAnswer, resolve: answer } = Promise.withResolvers<undefined>();
  const find = world.grants.findByHash.bind(world.grants);
  // The store answers with what it read before the revocation, after it.
  Object.assign(world.grants, {
    async findByHash(hash: string) {
      const row = find(hash);
      Object.assign(world.grants, { findByHash: find });
      ask(undefined);
      await mayAnswer;
      return row;
    },
  });
  const socket = new WebSocket(`ws://127.0.0.1:${world.port}/`, {
    headers: { host: world.host(), "X-Belljar-Token": link.token },
  });
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => undefined);
  await asked;
  await grants.revoke(world.id, link.id);
  answer(undefined);
  await closed;
});

test("a link makes only so many sessions at once", async () => {
  await using world = await ready({ limits: { sessionsPerLinkMax: 2 } });
  world.visibility = "link";
  const { grants } = world.gateway;
  const target = { sandboxId: world.id, port: 3000 };
  const link = await grants.createLink({ ...target, lifeMs: 60_000 });
  const other = await grants.createLink({ ...target, lifeMs: 60_000 });
  expect((await enter(world, link.token)).status).toBe(200);
  expect((await enter(world, link.token)).status).toBe(200);
  expect((await enter(world, link.token)).status).toBe(429);
  expect((await enter(world, other.token)).status).toBe(200);
});

test("crawlers and prefetches wake nothing", async () => {
  await using world = await ready();
  world.state = "frozen";
  expect((await ask(world, { headers: { "User-Agent": "Slackbot 1.0" } })).text).toContain(
    "PREVIEW_ASLEEP",
  );
  expect((await ask(world, { headers: { "Sec-Purpose": "prefetch;prerender" } })).status).toBe(503);
  expect(world.events).not.toContain("wake");
  expect(
    (await ask(world, { headers: { "User-Agent": "Mozilla/5.0 (Linux; Android 12; CUBOT X50)" } }))
      .status,
  ).toBe(200);
});

test("a stranger gets one and the same answer for private, unknown and unexposed, and wakes nothing", async () => {
  await using world = await ready();
  world.state = "frozen";
  world.visibility = "private";
  const without = (text: string) => text.replace(/nonce-[^']+|nonce="[^"]+"/g, "");
  for (const headers of [
    {},
    browser,
    { "X-Belljar-Token": "bj_wrong" },
    { Cookie: "belljar-preview=bjsession_x" },
  ]) {
    const hidden = await ask(world, { headers });
    const unknown = await ask(world, { headers, host: `3000-${newSandboxId()}.localhost` });
    const unexposed = await ask(world, { headers, host: world.host(3001) });
    expect(hidden.status).toBe(404);
    expect(without(unknown.text)).toBe(without(hidden.text));
    expect(without(unexposed.text)).toBe(without(hidden.text));
  }
  const boot = await ask(world, { path: "/.belljar/boot" });
  expect(boot.status).toBe(404);
  expect(world.events).toEqual([]);
});

test("the owner's code becomes a session once, on its own host alone", async () => {
  await using world = await ready();
  world.visibility = "private";
  world.ports.set(3001, place.port);
  const code = await world.gateway.grants.createCode({ sandboxId: world.id, port: 3000 });
  expect((await enter(world, code.token, { host: world.host(3001) })).status).toBe(401);
  const entered = await enter(world, code.token);
  expect(entered.status).toBe(200);
  expect(entered.body).toContain('"to":"/x?y#z"');
  expect(entered.text).toMatch(
    /Set-Cookie: belljar-preview=bjsession_[^;]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax/,
  );
  expect(entered.text).toContain("Referrer-Policy: no-referrer");
  expect((await enter(world, code.token)).status).toBe(401);
  const headers = { Cookie: cookieOf(entered.text) };
  // Stores forget codes once their minute is over; the session goes on.
  world.grants.rows.delete(code.id);
  expect((await ask(world, { headers })).status).toBe(200);
  expect((await ask(world, { headers, host: world.host(3001) })).status).toBe(404);
  expect((await ask(world, { headers: { Cookie: `belljar-preview=${code.token}` } })).status).toBe(
    404,
  );
});

test("a session is only made from the preview's own page", async () => {
  await using world = await ready();
  const fresh = async () =>
    (await world.gateway.grants.createCode({ sandboxId: world.id, port: 3000 })).token;
  expect(
    (await enter(world, await fresh(), { headers: { Origin: "http://evil.example" } })).status,
  ).toBe(403);
  expect(
    (await enter(world, await fresh(), { headers: { "Sec-Fetch-Site": "cross-site" } })).status,
  ).toBe(403);
  expect(
    (await enter(world, await fresh(), { headers: { "Sec-Fetch-Site": "same-origin" } })).status,
  ).toBe(200);
});

test("a link opens link previews, not private ones, and revoking it ends its sessions and WebSockets", async () => {
  await using world = await ready();
  world.visibility = "link";
  const link = await world.gateway.grants.createLink({
    sandboxId: world.id,
    port: 3000,
    lifeMs: 60_000,
  });
  expect((await ask(world, { headers: { "X-Belljar-Token": link.token } })).status).toBe(200);
  const headers = { Cookie: cookieOf((await enter(world, link.token)).text) };
  expect((await ask(world, { headers })).status).toBe(200);
  world.visibility = "private";
  world.changed();
  expect((await ask(world, { headers })).status).toBe(404);
  world.visibility = "link";
  world.changed();
  const socket = new WebSocket(`ws://127.0.0.1:${world.port}/`, {
    headers: { host: world.host(), ...headers },
  });
  await new Promise((resolve) => socket.once("open", resolve));
  expect((await world.gateway.grants.list(world.id)).map(({ id }) => id)).toEqual([link.id]);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.on("error", () => undefined);
  await world.gateway.grants.revoke(world.id, link.id);
  await closed;
  expect((await ask(world, { headers })).status).toBe(404);
  expect((await ask(world, { headers: { "X-Belljar-Token": link.token } })).status).toBe(404);
  expect(await world.gateway.grants.list(world.id)).toEqual([]);
});

test("an open WebSocket is cut when visibility changes, and another that is still allowed is not", async () => {
  await using world = await ready();
  world.tokens.add("bj_owner");
  const open = async (headers: Record<string, string>) => {
    const socket = new WebSocket(`ws://127.0.0.1:${world.port}/`, {
      headers: { host: world.host(), ...headers },
    });
    socket.on("error", () => undefined);
    await new Promise((resolve) => socket.once("open", resolve));
    return socket;
  };
  world.visibility = "link";
  const owner = await open({ "X-Belljar-Token": "bj_owner" });
  world.visibility = "public";
  const anyone = await open({});
  const cut = new Promise((resolve) => anyone.once("close", resolve));
  world.visibility = "private";
  world.changed();
  await cut;
  const echoed = new Promise<string>((resolve) =>
    owner.once("message", (data: Buffer) => resolve(data.toString())),
  );
  owner.send("still here");
  expect(await echoed).toBe("still here");
  world.state = "stopped";
  const stopped = new Promise((resolve) => owner.once("close", resolve));
  world.changed();
  await stopped;
});

test("a WebSocket passes messages both ways and counts as activity", async () => {
  await using world = await ready();
  const socket = new WebSocket(`ws://127.0.0.1:${world.port}/hmr`, {
    headers: { host: world.host() },
  });
  await new Promise((resolve) => socket.once("open", resolve));
  const big = "x".repeat(3_000_000);
  const back = new Promise<number>((resolve) =>
    socket.once("message", (data: Buffer) => resolve(data.length)),
  );
  socket.send(big);
  expect(await back).toBe(big.length);
  expect(world.events).toContain("touch");
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.close(1000);
  await closed;
  await expect.poll(() => world.events.includes("closed")).toBe(true);
});

test("what is ours never reaches the app, and everything else does byte for byte", async () => {
  await using world = await ready();
  world.tokens.add("bj_owner");
  const seen = JSON.parse(
    (
      await ask(world, {
        headers: {
          Cookie: 'a=1;  b="x y"; belljar-preview=secret; __host-belljar=secret;c=3',
          Authorization: "Bearer bj_owner",
          "X-API-Key": "bj_owner",
          "X-Belljar-Token": "bj_owner",
          X_Belljar_User: "root",
          "X.Belljar.User": "root",
          "X-Forwarded-For": "6.6.6.6",
          X_Forwarded_For: "6.6.6.6",
          "X-Forwarded-Host": "evil.example",
          Forwarded: "for=6.6.6.6",
          "X-Real-IP": "6.6.6.6",
          "Transfer.Encoding": "chunked",
          "Proxy-Authorization": "Basic x",
          "X-Hop": "1",
          "Keep-Alive": "timeout=5",
          "X-Kept": "  two  spaces ",
        },
      })
    ).body,
  ) as Record<string, string>;
  expect(seen).toEqual({
    host: world.host(),
    cookie: 'a=1;  b="x y";c=3',
    "x-hop": "1",
    "x-kept": "two  spaces",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-host": world.host(),
    "x-forwarded-proto": "http",
  });
  const other = await ask(world, { headers: { Authorization: "Bearer app-own-token" } });
  expect(other.body).toContain("app-own-token");
  const otherKey = await ask(world, { headers: { "X-API-Key": "app-own-key" } });
  expect(otherKey.body).toContain("app-own-key");
});

test("rewriteHost shows the app localhost, in Origin too", async () => {
  await using world = await ready();
  world.rewriteHost = true;
  const seen = await ask(world, { headers: { Origin: `http://${world.host()}` } });
  expect(seen.body).toContain('"host":"localhost:3000"');
  expect(seen.body).toContain('"origin":"http://localhost:3000"');
  const foreign = await ask(world, { headers: { Origin: "http://evil.example" } });
  expect(foreign.body).toContain('"origin":"http://evil.example"');
});

test("a dev server that refuses the public host is asked again as localhost, and from then on", async () => {
  await using world = await ready({ domain: "example.org" });
  const hosts: string[] = [];
  const vite = createServer((request, response) => {
    const { host = "" } = request.headers;
    hosts.push(host);
    if (host.startsWith("localhost")) response.end("page");
    else response.writeHead(403).end(`Blocked request. This host ("${host}") is not allowed.`);
  });
  world.ports.set(3000, await listening(vite));
  const host = `3000-${world.id}.example.org`;
  expect((await ask(world, { host })).body).toContain("page");
  expect((await ask(world, { host })).body).toContain("page");
  expect(hosts).toEqual([host, "localhost:3000", "localhost:3000"]);
  vite.closeAllConnections();
  vite.close();
});

test("any other 403 passes untouched, whole or in pieces", async () => {
  await using world = await ready();
  let body = "";
  const strict = createServer((_request, response) => {
    response.writeHead(403);
    for (const piece of body.match(/[^]{1,100}/g) ?? []) response.write(piece);
    response.end();
  });
  world.ports.set(3000, await listening(strict));
  for (body of ["no", "x".repeat(3_000), ""]) {
    const answer = await ask(world);
    expect(answer.status).toBe(403);
    expect(answer.body.replaceAll(/[0-9a-f]*\r\n/g, "")).toBe(body);
  }
  strict.closeAllConnections();
  strict.close();
});

test("an app cannot set our cookie, a cookie for the parent domain, or clear other sites' data", async () => {
  await using world = await ready();
  const evil = createServer((_request, response) => {
    response.setHeader("Set-Cookie", [
      "__Host-belljar=x; Path=/",
      "BELLJAR-PREVIEW=x",
      "a=1; Domain=localhost; Path=/",
      "b=2; Path=/",
      "=belljar-preview=x; Path=/",
      " = __Host-belljar=x; Path=/",
    ]);
    response.setHeader("Clear-Site-Data", '"cookies"');
    response.setHeader("Alt-Svc", 'h3=":443"');
    response.end("ok");
  });
  world.ports.set(3000, await listening(evil));
  const { text } = await ask(world);
  expect(text.match(/set-cookie: .*/gi)).toEqual([
    "set-cookie: a=1; Path=/",
    "Set-Cookie: b=2; Path=/",
  ]);
  expect(text).not.toMatch(/clear-site-data|alt-svc/i);
  evil.closeAllConnections();
  evil.close();
});

test("failed credentials are throttled by address", async () => {
  await using world = await ready({ limits: { failuresPerMinuteMax: 3 } });
  world.visibility = "private";
  for (let index = 0; index < 3; index += 1)
    expect((await enter(world, "bjcode_wrong")).status).toBe(401);
  expect((await enter(world, "bjcode_wrong")).status).toBe(429);
  expect((await ask(world)).status).toBe(404);
});

test("hosts are compared without case, with a trailing dot and any port; others are refused", async () => {
  await using world = await ready();
  for (const host of [
    world.host().toUpperCase(),
    `${world.host()}.`,
    `${world.host()}:1234`,
    `s-${world.id}-3000.preview.localhost`,
  ]) {
    expect([host, (await ask(world, { host })).status]).toEqual([host, 200]);
  }
  for (const host of [
    "nobody.example",
    `03000-${world.id}.localhost`,
    `70000-${world.id}.localhost`,
    `3000-${world.id}x.localhost`,
    `a.${world.host()}`,
    `3000-${world.id}.localhost.evil.example`,
  ]) {
    expect([host, (await ask(world, { host })).status]).toEqual([host, 421]);
  }
});

test("the paths of the gateway never reach the app, in any spelling", async () => {
  await using world = await ready();
  for (const path of [
    "/.belljar/x",
    "/.belljar",
    "/.BELLJAR/enter",
    "/%2ebelljar/enter",
    "/%2Ebelljar/enter?x",
    "/.belljar%2fx",
  ]) {
    expect([path, (await ask(world, { path })).status]).toEqual([path, 404]);
  }
  const enterPage = await ask(world, { path: "/.belljar/enter" });
  expect(enterPage.status).toBe(200);
  expect(enterPage.text).toMatch(/Content-Security-Policy: default-src 'none'; script-src 'nonce-/);
  expect((await ask(world, { path: "/.belljarx" })).status).toBe(200);
});

test("X-Forwarded-For counts only from trusted proxies, and there the right-most untrusted hop", async () => {
  await using trusting = await ready({ trustedProxies: ["127.0.0.1", "10.0.0.0/8"] });
  const headers = { "X-Forwarded-For": "1.1.1.1, 9.9.9.9, 10.0.0.7", "X-Forwarded-Proto": "https" };
  const seen = await ask(trusting, { headers });
  expect(seen.body).toContain('"x-forwarded-for":"9.9.9.9"');
  expect(seen.body).toContain('"x-forwarded-proto":"https"');
  await using plain = await ready();
  expect((await ask(plain, { headers })).body).toContain('"x-forwarded-for":"127.0.0.1"');
  await expect(createWorld({ trustedProxies: ["nonsense"] })).rejects.toThrow("nonsense");
});
