import type { Token } from "@belljar/protocol";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { Api, ApiFailure } from "./support/api.ts";
import { expect, test } from "./fixture.ts";

const statusOf = async (api: Api, method: string, route: string, body?: unknown) =>
  (await api.call(method, route, body === undefined ? {} : { body })).status;

test("a scope may do what it says and no more", async ({ api, daemon, createSandbox }) => {
  const { id } = await createSandbox();
  const tokenOf = (scope: string) =>
    api.json<Token>("POST", "/v1/tokens", { body: { name: `t-${scope}`, scope } });
  using read = new Api(daemon.url, (await tokenOf("read")).token ?? "");
  using operate = new Api(daemon.url, (await tokenOf("operate")).token ?? "");
  using none = new Api(daemon.url, "");
  using wrong = new Api(daemon.url, `bj_${"x".repeat(40)}`);
  const exec = { command: ["true"] };
  const look = `/v1/sandboxes/${id}`;
  expect(await statusOf(read, "GET", look)).toBe(200);
  expect(await statusOf(read, "POST", `${look}/exec`, exec)).toBe(403);
  expect(await statusOf(read, "DELETE", look)).toBe(403);
  expect(await statusOf(operate, "POST", `${look}/exec`, exec)).toBe(200);
  expect(await statusOf(operate, "POST", "/v1/tokens", { name: "x" })).toBe(403);
  expect(await statusOf(operate, "GET", "/v1/tokens")).toBe(403);
  for (const stranger of [none, wrong]) {
    expect(await statusOf(stranger, "GET", look)).toBe(401);
    expect(await statusOf(stranger, "GET", "/v1/status")).toBe(401);
    expect(await statusOf(stranger, "GET", "/healthz")).toBe(200);
  }
});

test("a revoked and an expired token open nothing", async ({ api, daemon }) => {
  const short = await api.json<Token>("POST", "/v1/tokens", {
    body: { name: "short", expiresInMs: 1000 },
  });
  const gone = await api.json<Token>("POST", "/v1/tokens", { body: { name: "gone" } });
  using shortApi = new Api(daemon.url, short.token ?? "");
  using goneApi = new Api(daemon.url, gone.token ?? "");
  expect(await statusOf(goneApi, "GET", "/v1/status")).toBe(200);
  await api.json("DELETE", `/v1/tokens/${gone.id}`);
  expect(await statusOf(goneApi, "GET", "/v1/status")).toBe(401);
  await expect.poll(() => statusOf(shortApi, "GET", "/v1/status"), { timeout: 10_000 }).toBe(401);
});

test("two tokens in one request are refused", async ({ daemon }) => {
  const { rawExchange } = await import("./support/preview.ts");
  const bearer = `Authorization: Bearer ${daemon.token}\r\n`;
  const request = `GET /v1/status HTTP/1.1\r\nHost: localhost\r\n${bearer}${bearer}Connection: close\r\n\r\n`;
  const { statuses } = await rawExchange(daemon.port, request);
  expect([400, 401]).toContain(statuses[0]);
});

test("a page of another origin cannot write, nor open a stream", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  const headers = { origin: "https://evil.example" };
  const answer = await api.call("POST", `/v1/sandboxes/${id}/exec`, {
    body: { command: ["true"] },
    headers,
  });
  expect(new ApiFailure("exec", answer).code).toBe("ORIGIN_REFUSED");
  expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
});

test("no token is stored: nothing below the data directory holds one", async ({ api, daemon }) => {
  const made = await api.json<Token>("POST", "/v1/tokens", { body: { name: "canary" } });
  const secrets = [made.token ?? "none", daemon.token];
  const files = readdirSync(daemon.dataDir, { withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    if (file.name.endsWith(".img")) continue;
    const bytes = readFileSync(path.join(daemon.dataDir, file.name));
    for (const secret of secrets)
      expect(`${file.name} ${bytes.includes(secret)}`).toBe(`${file.name} false`);
  }
  const listed = await api.call("GET", "/v1/tokens");
  expect(listed.body.toString()).not.toContain(made.token ?? "none");
});
