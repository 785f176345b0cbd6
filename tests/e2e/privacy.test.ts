import { randomBytes } from "node:crypto";
import type { Link, OpenedPreview } from "@belljar/protocol";
import { WebSocket } from "ws";
import { expect, test } from "./fixture.ts";
import { until } from "./support/machine.ts";
import { previewHost, rawExchange } from "./support/preview.ts";

const PORT = 9000;
const APP = 'require("http").createServer((q, r) => r.end("the app")).listen(9000, "127.0.0.1")';
const START = { command: ["node", "-e", APP] };

const get = (host: string, target = "/", extra = "") =>
  `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${extra}Connection: close\r\n\r\n`;
const BROWSER = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";

test("a stranger neither sees nor wakes a private sandbox, nor learns that it exists", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox({ ports: [PORT], start: START });
  await api.move(id, "stop");
  const unknown = previewHost(
    `a${randomBytes(10).toString("hex").slice(0, 19)}`,
    PORT,
    daemon.port,
  );
  const known = previewHost(id, PORT, daemon.port);
  const closedPort = previewHost(id, PORT + 1, daemon.port);
  const strip = (text: string, host: string) =>
    text
      .replaceAll(host.split(".")[0] ?? "", "X")
      .replaceAll(/nonce-[^']+|nonce="[^"]+"|^(date|x-request-id):.*$/gim, "")
      .replaceAll(/"requestId":"[^"]+"/g, "");
  for (const extra of ["", BROWSER, "Accept: application/json\r\n"]) {
    const answers = await Promise.all(
      [known, unknown, closedPort].map((host) => rawExchange(daemon.port, get(host, "/", extra))),
    );
    const [first, second, third] = answers.map(({ text }, index) =>
      strip(text, [known, unknown, closedPort][index] ?? ""),
    );
    expect(second).toBe(first);
    expect(third).toBe(first);
    expect(answers[0]?.statuses[0]).toBeGreaterThanOrEqual(400);
  }
  expect((await api.get(id)).state).toBe("stopped");
});

test("a program with a token sees a private preview, and one with a wrong token does not", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox({ ports: [PORT], start: START });
  const host = previewHost(id, PORT, daemon.port);
  const visit = async (token: string) =>
    await api.call("GET", "/", { headers: { host, "x-belljar-token": token, authorization: "" } });
  await until(
    "the app answers its owner",
    async () => (await visit(daemon.token)).body.toString() === "the app",
  );
  expect((await visit(`bj_${"x".repeat(40)}`)).status).toBeGreaterThanOrEqual(400);
});

test("a code opens a preview once; a link until it is revoked, which ends its sessions", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox({ ports: [PORT], start: START });
  const host = previewHost(id, PORT, daemon.port);
  const origin = `http://${host}`;
  const enter = async (fragmentUrl: string) => {
    const fragment = new URLSearchParams(new URL(fragmentUrl).hash.slice(1));
    const token = fragment.get("code") ?? fragment.get("link") ?? "";
    return api.call("POST", "/.belljar/session", {
      body: { token },
      headers: { host, origin, authorization: "", "sec-fetch-site": "same-origin" },
    });
  };
  const cookieOf = (answer: Awaited<ReturnType<typeof enter>>) =>
    (answer.headers["set-cookie"]?.[0] ?? "").split(";")[0] ?? "";
  const visit = (cookie: string) =>
    api.call("GET", "/", { headers: { host, cookie, authorization: "" } });

  const opened = await api.json<OpenedPreview>("POST", `/v1/sandboxes/${id}/previews/${PORT}/open`);
  expect(new URL(opened.url).search).toBe("");
  const first = await enter(opened.url);
  expect(first.status).toBeLessThan(400);
  expect(first.headers["set-cookie"]?.[0]).toMatch(/HttpOnly/i);
  expect(first.headers["set-cookie"]?.[0]).not.toMatch(/Domain=/i);
  await until(
    "the owner sees the app",
    async () => (await visit(cookieOf(first))).body.toString() === "the app",
  );
  expect((await enter(opened.url)).status).toBeGreaterThanOrEqual(400);

  await api.json("PUT", `/v1/sandboxes/${id}/previews/${PORT}`, { body: { visibility: "link" } });
  const link = await api.json<Link>("POST", `/v1/sandboxes/${id}/previews/${PORT}/links`, {
    body: {},
  });
  const guest = await enter(link.url ?? "");
  expect((await visit(cookieOf(guest))).body.toString()).toBe("the app");
  await api.json("DELETE", `/v1/sandboxes/${id}/previews/${PORT}/links/${link.id}`);
  expect((await visit(cookieOf(guest))).status).toBeGreaterThanOrEqual(400);
});

test("making a preview private ends the WebSockets of strangers", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox({ ports: [PORT], visibility: "public" });
  const server = `
const { createHash } = require("crypto");
require("http").createServer((q, r) => r.end("ok")).on("upgrade", (q, s) => {
  const accept = createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
  s.write("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + "\\r\\n\\r\\n");
  s.on("error", () => {});
}).listen(${PORT}, "127.0.0.1")`;
  await api.json("POST", `/v1/sandboxes/${id}/processes`, {
    body: { command: ["node", "-e", server] },
  });
  const host = previewHost(id, PORT, daemon.port);
  await until(
    "the app answers",
    async () =>
      (await api.call("GET", "/", { headers: { host, authorization: "" } })).status === 200,
  );
  const socket = new WebSocket(`ws://127.0.0.1:${daemon.port}/`, { headers: { host } });
  await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await api.json("PUT", `/v1/sandboxes/${id}/previews/${PORT}`, {
    body: { visibility: "private" },
  });
  await closed;
});

test("fifty visitors of a stopped public preview are one start, and all get the app", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const command = ["/bin/sh", "-c", `echo s >> /home/user/starts; exec node -e '${APP}'`];
  const { id } = await createSandbox({ ports: [PORT], visibility: "public", start: { command } });
  const host = previewHost(id, PORT, daemon.port);
  const visit = () => api.call("GET", "/", { headers: { host, authorization: "" } });
  await until("the app answers", async () => (await visit()).status === 200);
  await api.move(id, "stop");
  const answers = await Promise.all(Array.from({ length: 50 }, visit));
  expect(new Set(answers.map(({ status, body }) => `${status} ${body.toString()}`))).toEqual(
    new Set(["200 the app"]),
  );
  expect((await api.exec(id, "cat /home/user/starts")).stdout).toBe("s\ns\n");
});

test("a browser that visits a stopped preview gets a page that moves on, not an error", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const command = ["/bin/sh", "-c", `sleep 1; exec node -e '${APP}'`];
  const { id } = await createSandbox({ ports: [PORT], visibility: "public", start: { command } });
  const host = previewHost(id, PORT, daemon.port);
  await until(
    "the app answers",
    async () => (await api.call("GET", "/", { headers: { host } })).status === 200,
  );
  await api.move(id, "stop");
  const { text, statuses } = await rawExchange(daemon.port, get(host, "/", BROWSER), {
    timeoutMs: 20_000,
  });
  expect(statuses[0] === 200 || statuses[0] === 503).toBe(true);
  expect(text).toContain("<html");
  await until(
    "the app answers again",
    async () => (await api.call("GET", "/", { headers: { host } })).body.toString() === "the app",
  );
});

test("nothing listening on a port is told within bounds", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox({ ports: [PORT], visibility: "public" });
  const host = previewHost(id, PORT, daemon.port);
  const answer = await api.call("GET", "/", { headers: { host, authorization: "" } });
  expect([502, 504]).toContain(answer.status);
});
