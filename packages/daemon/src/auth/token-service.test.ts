import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hostPath, newSandboxId } from "../kernel/index.ts";
import { silentLogger } from "../log/index.ts";
import { FakeClock } from "../sandbox/testing/fake-clock.ts";
import { openStore } from "../store/index.ts";
import { createTokenService, scopeCovers } from "./index.ts";

async function make(configured: string[] = []) {
  await using stack = new AsyncDisposableStack();
  const dataDir = await mkdtemp(join(tmpdir(), "belljar-auth-"));
  stack.defer(() => rm(dataDir, { recursive: true, force: true }));
  const store = stack.use(await openStore({ dataDir: hostPath(dataDir) }));
  const clock = new FakeClock();
  const options = { store, clock, logger: silentLogger(), configured };
  const tokens = createTokenService(options);
  const kept = stack.move();
  const again = () => createTokenService(options);
  return { clock, dataDir, tokens, again, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

test("the first token is made once, has every scope, and is not in any file", async () => {
  await using world = await make();
  const first = await world.tokens.createFirst();
  expect(first?.token).toMatch(/^bj_[0-9A-Za-z]{40}$/);
  expect(first?.scope).toBe("admin");
  expect(await world.tokens.createFirst()).toBeUndefined();
  const again = world.again();
  expect(await again.createFirst()).toBeUndefined();
  expect(await again.verify(first?.token ?? "")).toMatchObject({ name: "first", scope: "admin" });
  for (const name of await readdir(world.dataDir)) {
    const bytes = await readFile(join(world.dataDir, name));
    expect(bytes.includes(first?.token ?? "?")).toBe(false);
  }
});

test("verify() knows a token and none of its neighbours", async () => {
  await using world = await make();
  const { token } = await world.tokens.create({ name: "ci", scope: "read", expiresInMs: null });
  const value = token ?? "";
  expect(await world.tokens.verify(value)).toMatchObject({ name: "ci", scope: "read" });
  const neighbours = [
    "",
    " ",
    value.slice(0, -1),
    `${value}a`,
    value.toLowerCase(),
    ` ${value}`,
    "x".repeat(1_000_000),
  ];
  for (const other of neighbours) expect(await world.tokens.verify(other)).toBeUndefined();
});

test("an expired token is nobody, to the millisecond", async () => {
  await using world = await make();
  const { token } = await world.tokens.create({ name: "ci", scope: "read", expiresInMs: 1000 });
  await world.clock.advance(999);
  expect(await world.tokens.verify(token ?? "")).toBeDefined();
  await world.clock.advance(1);
  expect(await world.tokens.verify(token ?? "")).toBeUndefined();
});

test("revoke() takes effect at once, and an unknown id is TOKEN_NOT_FOUND", async () => {
  await using world = await make();
  const { id, token } = await world.tokens.create({ name: "ci", scope: "read", expiresInMs: null });
  await world.tokens.revoke(id);
  expect(await world.tokens.verify(token ?? "")).toBeUndefined();
  await expect(world.tokens.revoke(id)).rejects.toMatchObject({ code: "TOKEN_NOT_FOUND" });
  expect(await world.again().verify(token ?? "")).toBeUndefined();
});

test("whenEnded() tells of a revocation and of an expiry, once, and only whom it concerns", async () => {
  const secret = "s".repeat(16);
  await using world = await make([`ops:${secret}`]);
  const { tokens, clock } = world;
  const heard: string[] = [];
  const listen = async (name: string, expiresInMs: number | null) => {
    const { id, token } = await tokens.create({ name, scope: "read", expiresInMs });
    const identity = await tokens.verify(token ?? "");
    if (identity === undefined) throw new TypeError("a fresh token is unknown");
    return { id, identity, heard: tokens.whenEnded(identity, () => heard.push(name)) };
  };
  const revoked = await listen("revoked", null);
  await listen("other", null);
  await listen("month", 30 * 24 * 3600_000);
  const left = await listen("left", 1000);
  left.heard[Symbol.dispose]();
  const configured = await tokens.verify(secret);
  if (configured !== undefined) tokens.whenEnded(configured, () => heard.push("configured"));
  await tokens.revoke(revoked.id);
  expect(heard).toEqual(["revoked"]);
  for (let day = 0; day < 29; day += 1) await clock.advance(24 * 3600_000);
  expect(heard).toEqual(["revoked"]);
  await clock.advance(24 * 3600_000);
  expect(heard).toEqual(["revoked", "month"]);
  tokens.whenEnded(revoked.identity, () => heard.push("again"));
  expect(heard).toEqual(["revoked", "month", "again"]);
});

test("the last use is noted, at most once a minute", async () => {
  await using world = await make();
  const { token } = await world.tokens.create({ name: "ci", scope: "read", expiresInMs: null });
  const lastUsed = async () => (await world.tokens.list())[0]?.lastUsedAt;
  expect(await lastUsed()).toBeNull();
  await world.tokens.verify(token ?? "");
  const first = await lastUsed();
  expect(first).not.toBeNull();
  await world.clock.advance(59_000);
  await world.tokens.verify(token ?? "");
  expect(await lastUsed()).toBe(first);
  await world.clock.advance(1000);
  await world.tokens.verify(token ?? "");
  expect(await lastUsed()).not.toBe(first);
});

test("list() never shows a value", async () => {
  await using world = await make();
  await world.tokens.create({ name: "ci", scope: "read", expiresInMs: null });
  expect(JSON.stringify(await world.tokens.list())).not.toMatch(/bj_|hash/);
});

test.for(["ci:0123456789abcdef", "ci=0123456789abcdef"])(
  "a configured token %s is admin",
  async (text) => {
    await using world = await make([text]);
    expect(await world.tokens.verify("0123456789abcdef")).toEqual({
      tokenId: "config:ci",
      name: "ci",
      scope: "admin",
    });
    expect(await world.tokens.createFirst()).toBeUndefined();
  },
);

const UNREADABLE = [
  "",
  "ci",
  "ci:",
  ":0123456789abcdef",
  "ci:short",
  "c i:0123456789abcdef",
  "ci:0123456789 abcdef",
];

test.for(UNREADABLE)("the configured token %j is CONFIG_INVALID", async (text) => {
  await expect(make([text])).rejects.toMatchObject({ code: "CONFIG_INVALID" });
});

test("the message about a configured token never repeats it", async () => {
  await expect(make(["c i:0123456789abcdef"])).rejects.not.toThrow(/0123456789abcdef/);
});

test("two configured tokens of one name are CONFIG_INVALID", async () => {
  await expect(make(["a:0123456789abcdef", "a:fedcba9876543210"])).rejects.toMatchObject({
    code: "CONFIG_INVALID",
  });
});

test("scopes are an order", () => {
  const scopes = ["read", "operate", "admin"] as const;
  const table = scopes.map((held) => scopes.filter((needed) => scopeCovers(held, needed)));
  expect(table).toEqual([["read"], ["read", "operate"], ["read", "operate", "admin"]]);
});

test("whoever holds a token may preview, nobody else", async () => {
  await using world = await make();
  const { token } = await world.tokens.create({ name: "ci", scope: "read", expiresInMs: null });
  expect(await world.tokens.mayPreview(token ?? "", newSandboxId())).toBe(true);
  expect(await world.tokens.mayPreview("bj_nonsense", newSandboxId())).toBe(false);
});
