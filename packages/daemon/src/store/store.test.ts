import { execFile, spawn } from "node:child_process";
import { chmod, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { GIB, hostPath, newSandboxId } from "../kernel/index.ts";
import type { HostPath } from "../kernel/index.ts";
import { expect, test as base } from "vitest";
import { lockDataDir, openStore } from "./index.ts";
import type { SandboxRow } from "./index.ts";

const test = base.extend<{ dataDir: HostPath }>({
  // oxlint-disable-next-line no-empty-pattern -- the fixture's shape is vitest's
  dataDir: async ({}, use) => {
    const path = await mkdtemp(join(tmpdir(), "belljar-store-"));
    await use(hostPath(path));
    await rm(path, { recursive: true, force: true });
  },
});

const mustSandbox = process.env["BELLJAR_MUST_SANDBOX"] === "1";
/** A mount is root's to make. */
const asRoot = test.skipIf(process.geteuid?.() !== 0 && !mustSandbox);
const run = promisify(execFile);

/** Runs `work` with a file system of 2 MiB on `path`. */
async function mountTiny(
  path: string,
  work: (remount: (mode: "ro" | "rw") => Promise<void>) => Promise<void>,
): Promise<void> {
  await run("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", path]);
  try {
    await work(async (mode) => void (await run("mount", ["-o", `remount,${mode}`, path])));
  } finally {
    await run("umount", ["-l", path]);
  }
}

async function fill(path: string): Promise<void> {
  const file = await open(path, "w");
  try {
    for (;;) await file.write(Buffer.alloc(4096));
  } catch {
    // Full, as was wanted.
  } finally {
    await file.close();
  }
}

function row(over: Partial<SandboxRow> = {}): SandboxRow {
  return {
    id: newSandboxId(),
    name: null,
    slot: 0,
    state: "running",
    pending: null,
    template: "host",
    level: "standard",
    onUnsupported: "refuse",
    visibility: "private",
    metadata: { who: 'a "quoted" name' },
    env: { KEY: "value=with=equals" },
    limits: {
      memoryBytes: 2 * GIB,
      cpuCount: 0.5,
      processCountMax: 8,
      openFilesMax: 64,
      diskBytes: null,
    },
    timeouts: { idleMs: null, onIdle: "freeze", frozenMs: 1000, lifeMs: null, onLifeEnd: "stop" },
    start: { command: ["sleep", "1"] },
    effective: [{ layer: "seccomp", asked: true, inForce: false, reason: "no kernel" }],
    error: null,
    createdAtMs: 1_800_000_000_123,
    startedAtMs: null,
    frozenAtMs: null,
    lastActiveAtMs: 1_800_000_000_123,
    keepAliveUntilMs: null,
    measuredMemoryBytes: null,
    ...over,
  };
}

test("a row comes back as it was written, from another connection too", async ({ dataDir }) => {
  const written = row({ name: "a", error: { code: "X", message: "y" } });
  {
    await using store = await openStore({ dataDir });
    await store.write([store.sandboxes.insertStep(written)]);
  }
  await using store = await openStore({ dataDir });
  expect(await store.sandboxes.all(() => undefined)).toEqual([written]);
});

test("a patch changes what it names and nothing else", async ({ dataDir }) => {
  await using store = await openStore({ dataDir });
  const written = row({ error: { code: "X", message: "y" } });
  await store.write([store.sandboxes.insertStep(written)]);
  await store.write([
    store.sandboxes.patchStep(written.id, { state: "frozen", error: null, frozenAtMs: 5 }),
  ]);
  expect(await store.sandboxes.all(() => undefined)).toEqual([
    { ...written, state: "frozen", error: null, frozenAtMs: 5 },
  ]);
});

test("write() does all or nothing", async ({ dataDir }) => {
  await using store = await openStore({ dataDir });
  const first = row();
  const clash = row({ slot: 0 });
  const steps = [store.sandboxes.insertStep(first), store.sandboxes.insertStep(clash)];
  await expect(store.write(steps)).rejects.toThrow(/UNIQUE/);
  expect(await store.sandboxes.all(() => undefined)).toEqual([]);
  await store.write([
    store.sandboxes.insertStep(first),
    store.sandboxes.insertStep({ ...clash, slot: 1 }),
  ]);
  expect(await store.sandboxes.all(() => undefined)).toHaveLength(2);
});

test("previews and grants go with their sandbox, tasks stay", async ({ dataDir }) => {
  await using store = await openStore({ dataDir });
  const { id } = row();
  await store.write([
    store.sandboxes.insertStep(row({ id })),
    store.previews.putStep({ sandboxId: id, port: 80, visibility: "public", rewriteHost: true }),
  ]);
  const grant = {
    id: "g1",
    sandboxId: id,
    port: null,
    kind: "link" as const,
    tokenHash: "h",
    parentId: null,
    createdAtMs: 1,
    expiresAtMs: 2,
    usedAtMs: null,
    revokedAtMs: null,
  };
  await store.grants.insert(grant);
  expect(await store.previews.all()).toHaveLength(1);
  expect(await store.grants.findByHash("h")).toEqual(grant);
  await store.write([store.sandboxes.removeStep(id)]);
  expect(await store.previews.all()).toEqual([]);
  expect(await store.grants.findByHash("h")).toBeUndefined();
});

test("consume() is true exactly once, and never for what is revoked", async ({ dataDir }) => {
  await using store = await openStore({ dataDir });
  const { id } = row();
  await store.write([store.sandboxes.insertStep(row({ id }))]);
  const grant = (name: string, parentId: string | null) => ({
    id: name,
    sandboxId: id,
    port: 80,
    kind: "code" as const,
    tokenHash: `hash-${name}`,
    parentId,
    createdAtMs: 1,
    expiresAtMs: 2,
    usedAtMs: null,
    revokedAtMs: null,
  });
  await store.grants.insert(grant("one", null));
  await store.grants.insert(grant("parent", null));
  await store.grants.insert(grant("child", "parent"));
  const both = await Promise.all([store.grants.consume("one", 5), store.grants.consume("one", 5)]);
  expect(both.toSorted()).toEqual([false, true]);
  expect(await store.grants.revoke("parent", 7)).toBe(true);
  expect(await store.grants.revoke("nobody", 7)).toBe(false);
  expect(await store.grants.findById("child")).toMatchObject({ revokedAtMs: 7 });
  expect(await store.grants.consume("child", 8)).toBe(false);
});

test("a damaged row is handed over and does not take the others with it", async ({ dataDir }) => {
  const good = row();
  const bad = row({ slot: 1 });
  {
    await using store = await openStore({ dataDir });
    await store.write([store.sandboxes.insertStep(good), store.sandboxes.insertStep(bad)]);
  }
  const file = new DatabaseSync(join(dataDir, "belljar.db"));
  file.prepare('update sandboxes set limits = \'{"memoryBytes":"lots"}\' where id = ?').run(bad.id);
  file.close();
  await using store = await openStore({ dataDir });
  const damaged: string[] = [];
  const rows = await store.sandboxes.all((id) => damaged.push(id));
  expect(rows).toEqual([good]);
  expect(damaged).toEqual([bad.id]);
});

test("the database is readable by its owner alone where the directory was made by us", async ({
  dataDir,
}) => {
  const inner = hostPath(join(dataDir, "inner"));
  await using _store = await openStore({ dataDir: inner });
  expect((await stat(inner)).mode & 0o777).toBe(0o700);
});

test("a file that is no database is DATA_DIR_UNUSABLE with its path", async ({ dataDir }) => {
  await writeFile(
    join(dataDir, "belljar.db"),
    "this is not a database, it is a text of some length\n".repeat(200),
  );
  await expect(openStore({ dataDir })).rejects.toMatchObject({
    code: "DATA_DIR_UNUSABLE",
    message: expect.stringContaining(join(dataDir, "belljar.db")),
  });
});

test("a store of a newer Belljar is DATA_DIR_UNUSABLE and stays as it is", async ({ dataDir }) => {
  {
    await using _store = await openStore({ dataDir });
  }
  const file = new DatabaseSync(join(dataDir, "belljar.db"));
  file.exec("insert into kysely_migration values ('9999-future', '2030-01-01T00:00:00.000Z')");
  file.close();
  await expect(openStore({ dataDir })).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
});

test("a path that is a file is DATA_DIR_UNUSABLE, for the lock and for the store", async ({
  dataDir,
}) => {
  const path = hostPath(join(dataDir, "file"));
  await writeFile(path, "");
  await expect(openStore({ dataDir: path })).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
  await expect(lockDataDir(path)).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
});

test("lockDataDir() refuses a second holder, names the first, and lets go", async ({ dataDir }) => {
  {
    await using _lock = await lockDataDir(dataDir);
    await expect(lockDataDir(dataDir)).rejects.toMatchObject({
      code: "DATA_DIR_IN_USE",
      message: expect.stringContaining(`pid ${process.pid}`),
    });
  }
  await using _again = await lockDataDir(dataDir);
});

test("a holder that was killed leaves no lock behind", async ({ dataDir }) => {
  const index = new URL("./index.ts", import.meta.url).href;
  const program = `import { lockDataDir } from ${JSON.stringify(index)};
    await lockDataDir(${JSON.stringify(dataDir)}); console.log("held"); setInterval(() => {}, 1000);`;
  const args = ["-C", "belljar-source", "--input-type=module", "-e", program];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
  await expect(lockDataDir(dataDir)).rejects.toMatchObject({
    code: "DATA_DIR_IN_USE",
    details: { pid: child.pid },
  });
  child.kill("SIGKILL");
  await new Promise<void>((resolve) => child.once("exit", () => resolve()));
  await using _lock = await lockDataDir(dataDir);
  expect(await readFile(join(dataDir, "lock.pid"), "utf8")).toBe(`${process.pid}\n`);
});

asRoot(
  "a full disk is STORAGE_FAILED, keeps what was there, and passes when there is room again",
  async ({ dataDir }) => {
    await mountTiny(dataDir, async () => {
      await using store = await openStore({ dataDir });
      const first = row();
      await store.write([store.sandboxes.insertStep(first)]);
      const filler = join(dataDir, "filler");
      await fill(filler);
      const large = row({ slot: 1, env: { BIG: "x".repeat(100_000) } });
      await expect(store.write([store.sandboxes.insertStep(large)])).rejects.toMatchObject({
        code: "STORAGE_FAILED",
      });
      expect(await store.sandboxes.all(() => undefined)).toEqual([first]);
      await rm(filler);
      await store.write([store.sandboxes.insertStep(large)]);
      expect(await store.sandboxes.all(() => undefined)).toHaveLength(2);
    });
  },
);

asRoot("a full disk is STORAGE_FAILED for what is written by itself, too", async ({ dataDir }) => {
  await mountTiny(dataDir, async () => {
    await using store = await openStore({ dataDir });
    await fill(join(dataDir, "filler"));
    const large = { name: "n", value: "x".repeat(200_000) };
    await expect(store.settings.set(large.name, large.value)).rejects.toMatchObject({
      code: "STORAGE_FAILED",
    });
  });
});

test("nobody else can read or lock the files, also in a directory that was there and is open to all", async ({
  dataDir,
}) => {
  await chmod(dataDir, 0o755);
  await using _lock = await lockDataDir(dataDir);
  await using store = await openStore({ dataDir });
  await store.settings.set("a", "b");
  const names = await readdir(dataDir);
  expect(names).toEqual(expect.arrayContaining(["belljar.db", "belljar.db-wal", "lock.db"]));
  for (const name of names) {
    const { mode } = await stat(join(dataDir, name));
    expect([name, (mode & 0o077).toString(8)]).toEqual([name, "0"]);
  }
});

asRoot("a read-only data directory is DATA_DIR_UNUSABLE", async ({ dataDir }) => {
  await mountTiny(dataDir, async (remount) => {
    await remount("ro");
    await expect(openStore({ dataDir })).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
    await expect(lockDataDir(dataDir)).rejects.toMatchObject({ code: "DATA_DIR_UNUSABLE" });
    await remount("rw");
    await using _store = await openStore({ dataDir });
  });
});

test("events are numbered, paged and forgotten from the old end", async ({ dataDir }) => {
  await using store = await openStore({ dataDir });
  const steps = Array.from({ length: 10 }, (_, index) =>
    store.events.insertStep({
      id: index + 1,
      atMs: index,
      type: "sandbox.state",
      sandboxId: index % 2 === 0 ? "a" : "b",
      data: { index },
    }),
  );
  await store.write(steps);
  expect(await store.events.newestId()).toBe(10);
  const page = await store.events.since(3, { sandboxId: "a", limit: 2 });
  expect(page.map((event) => event.id)).toEqual([5, 7]);
  await store.events.removeUpTo(8);
  expect((await store.events.since(0, { limit: 100 })).map((event) => event.id)).toEqual([9, 10]);
});
