import type { ChildProcess } from "node:child_process";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  execResultSchema,
  fileStatSchema,
  linkSchema,
  openedPreviewSchema,
  previewSchema,
  processSchema,
  sandboxSchema,
  statusSchema,
  taskSchema,
  templateSchema,
  tokenSchema,
  usageSchema,
} from "@belljar/protocol";
import type { Sandbox } from "./index.ts";
import { Belljar, BelljarError } from "./index.ts";

/** The real daemon from its sources, as a child process, driven as any user would. */
const ENTRY = fileURLToPath(new URL("../../daemon/src/main.ts", import.meta.url));

interface Daemon {
  readonly process: ChildProcess;
  readonly url: string;
  readonly token: string | undefined;
  readonly stderr: () => string;
}

function run(
  dataDir: string,
  flags: string[],
): { process: ChildProcess; stderr: () => string; exited: Promise<number | null> } {
  const argv = ["-C", "belljar-source", ENTRY, "--data-dir", dataDir, "--ready-json", ...flags];
  const child = spawn(process.execPath, argv, { stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stderr.on("data", (data: Buffer) => (text += data.toString()));
  const exited = once(child, "exit").then(([code]) => code as number | null);
  return { process: child, stderr: () => text, exited };
}

async function start(dataDir: string, flags: string[] = ["--port", "0"]): Promise<Daemon> {
  const { process: child, stderr, exited } = run(dataDir, flags);
  const line = once(createInterface({ input: child.stdout! }), "line").then(
    ([text]) => text as string,
  );
  const ready = await Promise.race([
    line,
    exited.then(() => {
      throw new Error(`the daemon ended: ${stderr()}`);
    }),
  ]);
  const { url, token } = JSON.parse(ready) as { url: string; token?: string };
  return { process: child, url, token, stderr };
}

async function stop(daemon: Daemon): Promise<number | null> {
  const exited = once(daemon.process, "exit");
  daemon.process.kill("SIGTERM");
  return ((await exited) as [number | null])[0];
}

/** The pool and the sockets' directory stay mounted when a daemon stops: its sandboxes live on. */
function removeDataDir(path: string): void {
  for (const name of ["volumes", "run"]) {
    if (existsSync(join(path, name))) spawnSync("umount", ["--lazy", join(path, name)]);
  }
  rmSync(path, { recursive: true, force: true });
}

async function failure(promise: Promise<unknown>): Promise<BelljarError> {
  const error: unknown = await promise.then(
    () => "it did not fail",
    (caught: unknown) => caught,
  );
  if (!BelljarError.is(error))
    throw new Error(`no BelljarError: ${String(error)}`, { cause: error });
  return error;
}

const decoder = new TextDecoder();
const dataDir = mkdtempSync(join(tmpdir(), "belljar-sdk-"));
let daemon: Daemon;
let belljar: Belljar;
let sandbox: Sandbox;
let token = "";

beforeAll(async () => {
  daemon = await start(dataDir);
  token = daemon.token ?? "";
  belljar = new Belljar({ url: daemon.url, token });
  sandbox = await belljar.sandboxes.create({ name: "first", metadata: { kind: "test" } });
});

afterAll(async () => {
  for await (const each of belljar.sandboxes.list()) await each.destroy();
  await stop(daemon);
  removeDataDir(dataDir);
});

describe("sandboxes", () => {
  test("a sandbox is made, found by id, name and metadata, and changed", async () => {
    expect(sandbox.info).toMatchObject({ name: "first", state: "running", template: "host" });
    expect((await belljar.sandboxes.get(sandbox.id)).info.id).toBe(sandbox.id);
    expect((await belljar.sandboxes.byName("first")).id).toBe(sandbox.id);
    expect((await failure(belljar.sandboxes.create({ name: "first" }))).code).toBe(
      "SANDBOX_NAME_TAKEN",
    );
    expect((await failure(belljar.sandboxes.create({ template: "nope" }))).code).toBe(
      "TEMPLATE_NOT_FOUND",
    );
    const found = [];
    for await (const each of belljar.sandboxes.list({ metadata: { kind: "test" } }))
      found.push(each.id);
    expect(found).toEqual([sandbox.id]);
    expect((await sandbox.update({ metadata: { kind: "test", more: "1" } })).metadata).toEqual({
      kind: "test",
      more: "1",
    });
  });

  test("the same Idempotency-Key makes one sandbox, another body with it is refused", async () => {
    const key = { idempotencyKey: "once" };
    const [a, b] = [
      await belljar.sandboxes.create({ name: "twice" }, key),
      await belljar.sandboxes.create({ name: "twice" }, key),
    ];
    expect(b.id).toBe(a.id);
    expect((await failure(belljar.sandboxes.create({ name: "other" }, key))).code).toBe(
      "IDEMPOTENCY_CONFLICT",
    );
    await a.destroy();
    expect((await failure(a.refresh())).code).toBe("SANDBOX_NOT_FOUND");
  });

  test("it is frozen, woken by a call, stopped, and woken with its workspace", async () => {
    const other = await belljar.sandboxes.create();
    await other.files.write("/home/user/kept.txt", "kept");
    expect((await other.freeze()).state).toBe("frozen");
    expect((await other.exec("echo awake")).stdout).toBe("awake\n");
    expect((await other.refresh()).state).toBe("running");
    expect((await other.stop()).state).toBe("stopped");
    expect((await other.wake()).state).toBe("running");
    expect(await other.files.readText("/home/user/kept.txt")).toBe("kept");
    expect((await other.usage()).processCount).toBeGreaterThan(0);
    expect((await other.keepAlive(60_000)).keepAliveUntil).not.toBeNull();
    await other.destroy();
  });
});

describe("commands", () => {
  test("exec gives both streams, the exit, and takes stdin, env, cwd and user", async () => {
    const result = await sandbox.exec("cat; echo $A >&2; pwd; id -un; exit 3", {
      stdin: "in ",
      env: { A: "err" },
      cwd: "/tmp",
      user: "root",
    });
    expect(result).toMatchObject({
      exitCode: 3,
      stdout: "in /tmp\nroot\n",
      stderr: "err\n",
      reason: "exited",
    });
    const binary = await sandbox.exec(["cat"], { stdin: "/wD+", encoding: "base64" });
    expect(binary.stdout).toBe("/wD+");
  });

  test("what cannot run says why", async () => {
    expect((await failure(sandbox.exec(["/nonexistent"]))).code).toBe("EXEC_NOT_FOUND");
    expect((await failure(sandbox.exec("true", { cwd: "/nonexistent" }))).code).toBe("EXEC_CWD");
    expect((await failure(sandbox.exec("true", { user: "nobody2" }))).code).toBe(
      "EXEC_USER_UNKNOWN",
    );
  });

  test("a timeout ends a command, and so does a client that goes away", async () => {
    expect((await sandbox.exec("sleep 100", { timeoutMs: 100 })).reason).toBe("timeout");
    const controller = new AbortController();
    const gone = sandbox.exec("exec sleep 4321", { signal: controller.signal });
    await expect.poll(async () => (await sandbox.exec("pgrep -fx 'sleep 4321'")).exitCode).toBe(0);
    controller.abort();
    await expect(gone).rejects.toThrow("abort");
    await expect
      .poll(async () => (await sandbox.exec("pgrep -fx 'sleep 4321'")).exitCode, {
        timeout: 10_000,
      })
      .toBe(1);
  });

  test("a spawned command streams both ways, and 50 MB pass a slow reader whole", async () => {
    const cat = await sandbox.spawn(["cat"], { stdin: true });
    await cat.writeStdin("hello");
    cat.endStdin();
    let text = "";
    for await (const { data } of cat.output) text += decoder.decode(data);
    expect([text, (await cat.exited).exitCode]).toEqual(["hello", 0]);
    const large = await sandbox.spawn("head -c 50000000 /dev/zero");
    let bytes = 0;
    for await (const { data } of large.output) bytes += data.length;
    expect(bytes).toBe(50_000_000);
  });

  test("a terminal has its size, and changes it; a signal reaches the command", async () => {
    const shell = await sandbox.spawn(
      "stty size; trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.05; done",
      {
        terminal: { columns: 80, rows: 24 },
      },
    );
    let text = "";
    for await (const { data } of shell.output) {
      text += decoder.decode(data);
      if (text.includes("ready") && !text.includes("30 100"))
        shell.resize({ columns: 100, rows: 30 });
    }
    expect(text).toContain("24 80");
    expect(text).toContain("30 100");
    const sleeper = await sandbox.spawn("exec sleep 100");
    sleeper.signal("SIGINT");
    expect(await sleeper.exited).toMatchObject({ reason: "signaled", signal: "SIGINT" });
  });

  test("closing a spawned command ends it, a kept process goes on and is attached to again", async () => {
    const command = await sandbox.spawn("exec sleep 4322");
    command.close();
    await expect
      .poll(async () => (await sandbox.exec("pgrep -fx 'sleep 4322'")).exitCode, {
        timeout: 10_000,
      })
      .toBe(1);
    const kept = await sandbox.processes.start({
      command: "echo before; read line; echo got $line; exit 4",
      tag: "kept",
      stdin: true,
    });
    expect((await failure(sandbox.processes.start({ command: "true", tag: "kept" }))).code).toBe(
      "EXEC_TAG_TAKEN",
    );
    const again = await sandbox.processes.attach("kept");
    expect(again.pid).toBe(kept.pid);
    await again.writeStdin("word\n");
    let text = "";
    for await (const { data } of again.output) text += decoder.decode(data);
    expect(text).toBe("before\ngot word\n");
    expect((await again.exited).exitCode).toBe(4);
    expect((await failure(sandbox.processes.signal(999_999, "SIGTERM"))).code).toBe(
      "PROCESS_NOT_FOUND",
    );
    expect((await failure(sandbox.processes.attach("nobody"))).code).toBe("PROCESS_NOT_FOUND");
  });
});

describe("files", () => {
  test("a file of 20 MB arrives whole, both ways, and in parts", async () => {
    const bytes = new Uint8Array(20_000_000).map((_, index) => index * 7);
    const stat = await sandbox.files.write("/home/user/a/b/large.bin", bytes, { mode: "0640" });
    expect(stat).toMatchObject({
      path: "/home/user/a/b/large.bin",
      size: bytes.length,
      mode: "0640",
      owner: "user",
    });
    const back = await sandbox.files.read("/home/user/a/b/large.bin");
    expect(createHash("sha256").update(back).digest("hex")).toBe(
      createHash("sha256").update(bytes).digest("hex"),
    );
    const part = await sandbox.files.read("/home/user/a/b/large.bin", { offset: 5, length: 3 });
    expect([...part]).toEqual([...bytes.subarray(5, 8)]);
  });

  test("an aborted upload leaves nothing", async () => {
    const controller = new AbortController();
    async function* endless() {
      for (let count = 0; ; count += 1) {
        if (count === 50) controller.abort();
        yield new Uint8Array(65_536);
      }
    }
    await expect(
      sandbox.files.write("/home/user/up/x", endless(), { signal: controller.signal }),
    ).rejects.toThrow();
    await expect.poll(async () => (await sandbox.exec("ls -A /home/user/up")).stdout).toBe("");
  });

  test("directories, moves, modes, owners and attributes", async () => {
    const { files } = sandbox;
    await files.makeDirectory("/home/user/dir/sub");
    await files.write("/home/user/dir/one", "1");
    await files.move("/home/user/dir/one", "/home/user/dir/two");
    await files.changeMode("/home/user/dir/two", "0600");
    await files.changeOwner("/home/user/dir/two", "root");
    expect(await files.stat("/home/user/dir/two")).toMatchObject({
      mode: "0600",
      owner: "root",
      size: 1,
      type: "file",
    });
    await files.setAttributes("/home/user/dir/sub", { "user.note": "aGk=" });
    expect(await files.attributes("/home/user/dir/sub")).toEqual({ "user.note": "aGk=" });
    const listed = (await files.list("/home/user/dir")).items.map(({ path, type }) => [path, type]);
    expect(listed.toSorted((a, b) => String(a).localeCompare(String(b)))).toEqual([
      ["/home/user/dir/sub", "directory"],
      ["/home/user/dir/two", "file"],
    ]);
    expect((await failure(files.remove("/home/user/dir"))).code).toBe("FILE_NOT_EMPTY");
    await files.remove("/home/user/dir", { recursive: true });
    expect(await files.exists("/home/user/dir")).toBe(false);
    expect((await failure(files.read("/home/user/dir"))).code).toBe("FILE_NOT_FOUND");
  });

  test("changes are seen as they happen", async () => {
    await sandbox.files.makeDirectory("/home/user/watched");
    const controller = new AbortController();
    const seen: string[] = [];
    const watching = (async () => {
      for await (const { kind, path } of sandbox.files.watch("/home/user/watched", {
        signal: controller.signal,
      }))
        seen.push(`${kind} ${path}`);
    })();
    await expect
      .poll(
        async () => {
          await sandbox.exec("touch /home/user/watched/x.txt; rm /home/user/watched/x.txt");
          return (
            seen.some((one) => one.startsWith("created ")) &&
            seen.some((one) => one.startsWith("removed "))
          );
        },
        { timeout: 10_000 },
      )
      .toBe(true);
    controller.abort(new Error("enough"));
    await expect(watching).rejects.toThrow("enough");
  });
});

describe("previews, tasks, events, tokens", () => {
  const app = `require("http").createServer((q, s) => s.end("hello " + q.headers.host)).listen(3000, "127.0.0.1")`;

  test("a port becomes a URL; private ones show nothing to strangers, links let in", async () => {
    await sandbox.processes.start({ command: ["node", "-e", app], tag: "app" });
    await expect.poll(async () => (await sandbox.ports()).map(({ port }) => port)).toContain(3000);
    const preview = await sandbox.previews.put(3000);
    expect(preview).toMatchObject({ port: 3000, visibility: "private" });
    expect(new URL(preview.url).hostname).toBe(`3000-${sandbox.id}.localhost`);
    const show = (headers: Record<string, string> = {}) =>
      new Promise<string>((resolve, reject) => {
        const { port, host } = new URL(preview.url);
        const lines = Object.entries({ host, connection: "close", ...headers }).map(
          ([name, value]) => `${name}: ${value}\r\n`,
        );
        const socket = connect(Number(port), "127.0.0.1", () =>
          socket.write(`GET / HTTP/1.1\r\n${lines.join("")}\r\n`),
        );
        let text = "";
        socket.on("data", (data) => (text += data.toString()));
        socket.on("end", () => resolve(text));
        socket.on("error", reject);
      });
    expect(await show()).not.toContain("hello");
    expect(await show({ "x-belljar-token": token })).toContain(
      `hello 3000-${sandbox.id}.localhost`,
    );
    const link = await sandbox.previews.createLink(3000, { expiresInMs: 60_000 });
    const opened = await sandbox.previews.open(3000);
    expect([link.url, opened.url]).toEqual([
      expect.stringContaining("/.belljar/enter#link="),
      expect.stringContaining("/.belljar/enter#code="),
    ]);
    expect((await sandbox.previews.links(3000)).map(({ id }) => id)).toEqual([link.id]);
    await sandbox.previews.revokeLink(3000, link.id);
    expect(await sandbox.previews.links(3000)).toEqual([]);
    await sandbox.previews.put(3000, { visibility: "public" });
    expect(await show()).toContain("hello");
    await sandbox.previews.remove(3000);
    expect((await failure(sandbox.previews.open(3000))).code).toBe("PREVIEW_NOT_FOUND");
    await sandbox.processes.signal("app", "SIGKILL");
  });

  test("a task runs to its end, its events have no holes, and one can be cancelled", async () => {
    const task = await sandbox.tasks.create({ command: "echo one; echo two >&2; exit 2" });
    const events = [];
    for await (const event of task.events()) events.push(event);
    expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
    expect(events.at(-1)?.type).toBe("done");
    expect(await task.wait()).toMatchObject({
      state: "failed",
      exitCode: 2,
      stdoutTail: "one\n",
      stderrTail: "two\n",
    });
    const long = await sandbox.tasks.create({ command: "sleep 1000" });
    expect((await failure(sandbox.tasks.create({ command: "true" }))).code).toBe(
      "TASK_IN_PROGRESS",
    );
    expect((await long.cancel()).state).toBe("cancelled");
    const listed = [];
    for await (const each of sandbox.tasks.list()) listed.push(each.id);
    expect(listed.toSorted()).toEqual([task.id, long.id].toSorted());
    expect((await failure(belljar.tasks.get("abcdefghij0123456789"))).code).toBe("TASK_NOT_FOUND");
  });

  test("what happened is told again from where a reader left off", async () => {
    const other = await belljar.sandboxes.create({ name: "told" });
    await other.destroy();
    const types = [];
    for await (const event of belljar.events({ since: 0, sandboxId: other.id })) {
      types.push(event.type);
      if (event.type === "sandbox.destroyed") break;
    }
    expect(types).toContain("sandbox.created");
    const controller = new AbortController();
    let seen = "";
    void belljar
      .events({ signal: controller.signal })
      .next()
      .then(({ value }) => (seen = value?.type ?? ""));
    await expect
      .poll(async () => {
        await sandbox.update({ metadata: { at: String(performance.now()) } });
        return seen;
      })
      .toBe("sandbox.updated");
    controller.abort();
  });

  test("tokens have scopes, are shown once, and end at once", async () => {
    const made = await belljar.tokens.create({ name: "reader", scope: "read" });
    const reader = new Belljar({ url: daemon.url, token: made.token! });
    expect((await reader.sandboxes.get(sandbox.id)).id).toBe(sandbox.id);
    expect((await failure(reader.sandboxes.create())).code).toBe("FORBIDDEN");
    const handle = await reader.sandboxes.get(sandbox.id);
    // A refused upgrade shows a program no more than that the connection closed.
    expect((await failure(handle.spawn("true"))).code).toBe("DAEMON_UNREACHABLE");
    expect((await belljar.tokens.list()).find(({ id }) => id === made.id)).not.toHaveProperty(
      "token",
    );
    await belljar.tokens.revoke(made.id);
    expect((await failure(reader.status())).code).toBe("UNAUTHENTICATED");
    expect(daemon.stderr()).not.toContain(made.token);
    expect(daemon.stderr()).not.toContain(token);
  });

  test("answers are what the protocol's schemas say, to the last key", async () => {
    const process = await sandbox.processes.start({ command: "sleep 1", tag: "shown" });
    const rows = [
      [sandboxSchema, await sandbox.refresh()],
      [execResultSchema, await sandbox.exec("true")],
      [usageSchema, await sandbox.usage()],
      [processSchema, process],
      [processSchema, (await sandbox.processes.list())[0]],
      [fileStatSchema, await sandbox.files.stat("/home/user")],
      [previewSchema, await sandbox.previews.put(4000)],
      [linkSchema, await sandbox.previews.createLink(4000)],
      [openedPreviewSchema, await sandbox.previews.open(4000)],
      [taskSchema, await (await sandbox.tasks.create({ command: "true" })).wait()],
      [tokenSchema, (await belljar.tokens.list())[0]],
      [statusSchema, await belljar.status()],
      [templateSchema, (await belljar.templates().next()).value],
    ] as const;
    for (const [schema, answer] of rows)
      expect(schema.strict().safeParse(answer).error).toBeUndefined();
  });

  test("status and templates say what there is", async () => {
    expect(await belljar.status()).toMatchObject({
      dataDir,
      previewDomain: "localhost",
      url: daemon.url,
    });
    const names = [];
    for await (const template of belljar.templates()) names.push(template.name);
    expect(names).toContain("host");
  });
});

describe("start and stop", () => {
  test("a second daemon on the data directory, a taken port and a bad flag end with one clear message", async () => {
    const second = run(dataDir, ["--port", "0"]);
    expect(await second.exited).toBe(1);
    expect(second.stderr()).toContain(
      `DATA_DIR_IN_USE: ${dataDir} is in use by the daemon with pid ${daemon.process.pid}`,
    );
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const elsewhere = mkdtempSync(join(tmpdir(), "belljar-port-"));
    const taken = run(elsewhere, ["--port", String((server.address() as AddressInfo).port)]);
    expect(await taken.exited).toBe(1);
    expect(taken.stderr()).toContain("PORT_TAKEN");
    server.close();
    const bad = run(elsewhere, ["--server.prot", "1", "--log.level", "loud"]);
    expect(await bad.exited).toBe(1);
    expect(bad.stderr()).toMatch(/--server\.prot.*\n.*--log\.level/);
    removeDataDir(elsewhere);
  });

  test("a stop is clean, and a restart finds sandboxes and token again", async () => {
    const file = join(dataDir, "daemon.json");
    expect(JSON.parse(readFileSync(file, "utf8"))).toMatchObject({
      pid: daemon.process.pid,
      url: daemon.url,
    });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await sandbox.exec("echo still > /home/user/still");
    expect(await stop(daemon)).toBe(0);
    expect(existsSync(file)).toBe(false);
    daemon = await start(dataDir);
    expect(daemon.token).toBeUndefined();
    belljar = new Belljar({ url: daemon.url, token });
    sandbox = await belljar.sandboxes.get(sandbox.id);
    expect(await sandbox.files.readText("/home/user/still")).toBe("still\n");
  });
});
