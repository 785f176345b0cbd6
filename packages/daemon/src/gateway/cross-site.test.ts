import { createServer, type Server } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newSandboxId } from "../kernel/index.ts";
import { listening, RawClient } from "./testing/raw.ts";
import { createWorld, type World } from "./testing/world.ts";

const app: Server = createServer((_request, response) => response.end("secret"));
const place = { port: 0 };

beforeAll(async () => {
  place.port = await listening(app);
});
afterAll(() => {
  app.closeAllConnections();
  app.close();
});

/** The status of a request that the owner's browser makes, its session cookie included. */
async function asOwner(world: World, headers: Record<string, string>, method = "GET") {
  const { grants } = world.gateway;
  const target = { sandboxId: world.id, port: 3000 };
  const session = await grants.enter((await grants.createCode(target)).token, target);
  using client = await RawClient.to(world.port);
  const lines = Object.entries({ Cookie: `belljar-preview=${session.token}`, ...headers });
  client.send(
    `${method} / HTTP/1.1\r\nHost: ${world.host()}\r\nConnection: close\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`,
  );
  return await client.status();
}

async function privateWorld(): Promise<World> {
  const world = await createWorld();
  world.ports.set(3000, place.port);
  world.ports.set(8000, place.port);
  world.visibility = "private";
  return world;
}

/**
 * All previews share one site, so `SameSite` does not keep one sandbox's page from making a
 * visitor's browser ask another sandbox with that visitor's cookie.
 */
test("a page of another sandbox cannot use the visitor's session, by fetch, form, WebSocket or script", async () => {
  await using world = await privateWorld();
  const evil = `http://3000-${newSandboxId()}.localhost:8080`;
  const sameSite = { "Sec-Fetch-Site": "same-site" };
  const socket = {
    Connection: "Upgrade",
    Upgrade: "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
  };
  const calls: [string, Record<string, string>, string?][] = [
    ["fetch", { Origin: evil, ...sameSite, "Sec-Fetch-Mode": "cors" }],
    [
      "post",
      { Origin: evil, ...sameSite, "Sec-Fetch-Mode": "no-cors", "Content-Length": "0" },
      "POST",
    ],
    [
      "form",
      { Origin: evil, ...sameSite, "Sec-Fetch-Mode": "navigate", "Content-Length": "0" },
      "POST",
    ],
    [
      "opaque form",
      { Origin: "null", ...sameSite, "Sec-Fetch-Mode": "navigate", "Content-Length": "0" },
      "POST",
    ],
    ["script", { Referer: `${evil}/page`, ...sameSite, "Sec-Fetch-Mode": "no-cors" }],
    ["script without Referer", { ...sameSite, "Sec-Fetch-Mode": "no-cors" }],
    ["WebSocket", { Origin: evil, ...socket }],
    ["old browser", { Origin: evil }],
    ["other site", { Origin: "https://evil.example", "Sec-Fetch-Site": "cross-site" }],
    ["odd origin", { Origin: "http://3000-x.localhost@evil" }],
  ];
  for (const [name, headers, method] of calls)
    expect([name, await asOwner(world, headers, method)]).toEqual([name, 404]);
  expect(world.events).toEqual([]);
});

test("the preview's own pages, those of its other ports, the dashboard and links from anywhere can", async () => {
  await using world = await privateWorld();
  const own = `http://${world.host()}:8080`;
  const sibling = `http://${world.host(8000)}:8080`;
  const sameSite = { "Sec-Fetch-Site": "same-site" };
  const calls: [string, Record<string, string>, string?][] = [
    ["no headers at all", {}],
    ["typed address", { "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate" }],
    ["own fetch", { Origin: own, "Sec-Fetch-Site": "same-origin", "Content-Length": "0" }, "POST"],
    ["own fetch, old browser", { Origin: own, "Content-Length": "0" }, "POST"],
    ["behind an edge with TLS", { Origin: `https://${world.host()}` }],
    [
      "own form without Referer",
      { Origin: "null", "Sec-Fetch-Site": "same-origin", "Content-Length": "0" },
      "POST",
    ],
    ["sibling port", { Origin: sibling, ...sameSite, "Sec-Fetch-Mode": "cors" }],
    ["sibling's image", { Referer: `${sibling}/`, ...sameSite, "Sec-Fetch-Mode": "no-cors" }],
    ["dashboard", { Origin: "http://localhost:8080", ...sameSite, "Sec-Fetch-Mode": "cors" }],
    [
      "link",
      {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        Referer: "https://mail.example/",
      },
    ],
  ];
  for (const [name, headers, method] of calls)
    expect([name, await asOwner(world, headers, method)]).toEqual([name, 200]);
});
