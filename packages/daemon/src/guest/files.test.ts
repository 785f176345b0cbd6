import { execFileSync } from "node:child_process";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  chmodSync,
  chownSync,
  renameSync,
  unlinkSync,
  existsSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Build, BUILDS, type GuestProcess, startGuest } from "./testing/guest-process.ts";
import type { FileChange } from "./types.ts";

const isRoot = process.getuid?.() === 0;
const isCode = (code: string) => (error: unknown) => BelljarError.is(error) && error.code === code;

describe.for(BUILDS)("files, %s", (build: Build) => {
  let guest: GuestProcess;
  beforeAll(async () => {
    guest = await startGuest(build);
  });
  afterAll(async () => guest[Symbol.asyncDispose]());

  function place(mode = 0o777): string {
    const directory = mkdtempSync(join(guest.directory, "t-"));
    chmodSync(directory, mode);
    return directory;
  }
  const read = async (path: string, options = {}): Promise<Buffer> =>
    Buffer.concat(await (await guest.client.readFile(path, options)).body.toArray());
  const refused = (promise: Promise<unknown>, code: string) =>
    expect(promise).rejects.toSatisfy(isCode(code));

  test("what is written is read back, of any size and from any source", async () => {
    const at = place();
    for (const size of [0, 1, 65_535, 65_536, 65_537, 3_000_000]) {
      const bytes = Buffer.alloc(size, "abc");
      const stat = await guest.client.writeFile(`${at}/f`, bytes);
      expect(stat).toMatchObject({ type: "file", size, name: "f" });
      expect((await read(`${at}/f`)).equals(bytes)).toBe(true);
    }
    await guest.client.writeFile(
      `${at}/f`,
      Readable.from([Buffer.from("one"), "two", Buffer.alloc(200_000)]),
    );
    expect(statSync(`${at}/f`).size).toBe(200_006);
    expect((await read(`${at}/f`, { offset: 3, length: 3 })).toString()).toBe("two");
    expect(readdirSync(at)).toEqual(["f"]);
  });

  test("writing keeps the mode of what it replaces, makes parents and appends when asked", async () => {
    const at = place();
    await guest.client.writeFile(`${at}/a/b/c`, "x", { parents: true, mode: 0o640 });
    await guest.client.writeFile(`${at}/a/b/c`, "y");
    expect(statSync(`${at}/a/b/c`).mode & 0o7777).toBe(0o640);
    expect((await guest.client.writeFile(`${at}/new`, "z", { sync: true })).mode).toBe(0o644);
    await guest.client.writeFile(`${at}/a/b/c`, "+more", { append: true });
    expect(readFileSync(`${at}/a/b/c`, "utf8")).toBe("y+more");
    await refused(guest.client.writeFile(`${at}/no/dir`, "x"), "FILE_NOT_FOUND");
    await refused(guest.client.writeFile(`${at}/new/below`, "x"), "FILE_NOT_DIRECTORY");
    await refused(guest.client.writeFile(`${at}/new`, "x", { noReplace: true }), "FILE_EXISTS");
    await refused(guest.client.writeFile(at, "x"), "FILE_IS_DIRECTORY");
  });

  test("a body that fails, or a client that leaves, changes nothing and leaves nothing", async () => {
    const at = place();
    writeFileSync(`${at}/f`, "old");
    const failing = Readable.from(
      (async function* () {
        yield Buffer.alloc(500_000);
        throw new Error("the source broke");
      })(),
    );
    await expect(guest.client.writeFile(`${at}/f`, failing)).rejects.toThrow("the source broke");
    const abort = new AbortController();
    const endless = Readable.from(
      (async function* () {
        for (let i = 0; ; i++) {
          if (i === 50) abort.abort();
          yield Buffer.alloc(65_536);
        }
      })(),
    );
    await refused(
      guest.client.writeFile(`${at}/f`, endless, { signal: abort.signal }),
      "CANCELLED",
    );
    await expect.poll(() => readdirSync(at)).toEqual(["f"]);
    expect(readFileSync(`${at}/f`, "utf8")).toBe("old");
  });

  test("a full disk is told as such, and leaves nothing", async () => {
    const at = place();
    if (!isRoot) return;
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", at]);
    try {
      await using inside = await startGuest(build);
      await expect(inside.client.writeFile(`${at}/f`, Buffer.alloc(5_000_000))).rejects.toSatisfy(
        isCode("FILE_NO_SPACE"),
      );
      expect(readdirSync(at)).toEqual([]);
    } finally {
      execFileSync("umount", [at]);
    }
  });

  test("acts as the chosen user", async () => {
    if (!isRoot) return;
    const at = place();
    expect(await guest.client.writeFile(`${at}/f`, "x", { user: "nobody" })).toMatchObject({
      owner: "nobody",
      uid: 65_534,
    });
    await guest.client.chmod(`${at}/f`, 0o600, { user: "nobody" });
    await refused(guest.client.readFile("/etc/shadow", { user: "nobody" }), "FILE_PERMISSION");
    await refused(
      guest.client.writeFile("/etc/belljar-test", "x", { user: "nobody" }),
      "FILE_PERMISSION",
    );
    await refused(
      guest.client.chown(`${at}/f`, { owner: "root" }, { user: "nobody" }),
      "FILE_PERMISSION",
    );
    expect(await guest.client.chown(`${at}/f`, { owner: "0", group: "0" })).toMatchObject({
      uid: 0,
      gid: 0,
      owner: "root",
    });
    await refused(guest.client.stat(at, { user: "zork" }), "EXEC_USER_UNKNOWN");
  });

  test("lists with owners, types and link targets, deeper ones on request", async () => {
    const at = place();
    mkdirSync(`${at}/d/e`, { recursive: true });
    writeFileSync(`${at}/d/e/f`, "12345");
    symlinkSync("d/e", `${at}/link`);
    execFileSync("mkfifo", [`${at}/fifo`]);
    const list = async (depth?: number) => {
      const entries = [];
      for await (const entry of guest.client.list(at, depth === undefined ? {} : { depth }))
        entries.push(entry);
      return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
    };
    expect((await list()).map(({ name, type }) => [name, type])).toEqual([
      ["d", "directory"],
      ["fifo", "fifo"],
      ["link", "symlink"],
    ]);
    const deep = await list(3);
    expect(deep.map(({ name }) => name)).toEqual(["d", "d/e", "d/e/f", "fifo", "link"]);
    expect(deep.find(({ name }) => name === "d/e/f")?.size).toBe(5);
    expect(deep.find(({ name }) => name === "link")?.symlinkTarget).toBe("d/e");
    for (let i = 0; i < 3000; i++) writeFileSync(`${at}/d/n${i}`, "");
    let count = 0;
    for await (const entry of guest.client.list(`${at}/d`))
      count += entry.name.startsWith("n") ? 1 : 0;
    expect(count).toBe(3000);
    await expect(
      (async () => {
        for await (const entry of guest.client.list(`${at}/d/e/f`)) void entry;
      })(),
    ).rejects.toSatisfy(isCode("FILE_NOT_DIRECTORY"));
  });

  test("makes, moves and removes", async () => {
    const at = place();
    await guest.client.makeDirectory(`${at}/a/b`, { parents: true, mode: 0o2775 });
    expect(statSync(`${at}/a/b`).mode & 0o7777).toBe(0o2775);
    await guest.client.makeDirectory(`${at}/a/b`, { parents: true });
    await refused(guest.client.makeDirectory(`${at}/a/b`), "FILE_EXISTS");
    await guest.client.writeFile(`${at}/x`, "x");
    await guest.client.writeFile(`${at}/y`, "y");
    await refused(guest.client.move(`${at}/x`, `${at}/y`, { noReplace: true }), "FILE_EXISTS");
    await guest.client.move(`${at}/x`, `${at}/y`);
    expect(readFileSync(`${at}/y`, "utf8")).toBe("x");
    await guest.client.move(`${at}/y`, `${at}/p/q/y`, { parents: true });
    await refused(guest.client.remove(`${at}/p`), "FILE_NOT_EMPTY");
    await guest.client.remove(`${at}/p`, { recursive: true });
    await refused(guest.client.remove(`${at}/p`), "FILE_NOT_FOUND");
    expect(readdirSync(at)).toEqual(["a"]);
  });

  test("removes a tree deeper than any path, and never what a link in it points to", async () => {
    const at = place();
    mkdirSync(`${at}/precious`);
    writeFileSync(`${at}/precious/file`, "x");
    execFileSync("python3", [
      "-c",
      `import os
os.mkdir("${at}/tree"); os.chdir("${at}/tree")
os.symlink("${at}/precious", "link")
for i in range(3000):
    os.mkdir("d" * 20); open("f", "w").close(); os.chdir("d" * 20)
`,
    ]);
    await guest.client.remove(`${at}/tree`, { recursive: true });
    expect(readdirSync(at)).toEqual(["precious"]);
    expect(readFileSync(`${at}/precious/file`, "utf8")).toBe("x");
    symlinkSync(`${at}/precious`, `${at}/link`);
    await guest.client.remove(`${at}/link`, { recursive: true });
    expect(existsSync(`${at}/precious/file`)).toBe(true);
  });

  test("never writes, chmods or chowns through a last link, but reads through it", async () => {
    const at = place();
    writeFileSync(`${at}/target`, "secret");
    chmodSync(`${at}/target`, 0o644);
    symlinkSync(`${at}/target`, `${at}/link`);
    await refused(guest.client.writeFile(`${at}/link`, "x"), "FILE_IS_SYMLINK");
    await refused(guest.client.writeFile(`${at}/link`, "x", { append: true }), "FILE_IS_SYMLINK");
    await refused(guest.client.chmod(`${at}/link`, 0o777), "FILE_IS_SYMLINK");
    await refused(guest.client.chown(`${at}/link`, { owner: "1" }), "FILE_IS_SYMLINK");
    await refused(
      guest.client.setXattr(`${at}/link`, { name: "user.a", value: Buffer.from("b") }),
      "FILE_IS_SYMLINK",
    );
    expect((await read(`${at}/link`)).toString()).toBe("secret");
    expect((await guest.client.stat(`${at}/link`)).type).toBe("file");
    expect(await guest.client.stat(`${at}/link`, { followSymlink: false })).toMatchObject({
      type: "symlink",
      symlinkTarget: `${at}/target`,
    });
    expect(statSync(`${at}/target`).mode & 0o777).toBe(0o644);
    expect(readFileSync(`${at}/target`, "utf8")).toBe("secret");
  });

  test("follows a link in the middle only when root or the acting user made it", async () => {
    if (!isRoot) return;
    const at = place();
    mkdirSync(`${at}/real`);
    chmodSync(`${at}/real`, 0o777);
    symlinkSync("real", `${at}/roots`);
    execFileSync("setpriv", [
      "--reuid=1234",
      "--regid=1234",
      "--clear-groups",
      "ln",
      "-s",
      "real",
      `${at}/theirs`,
    ]);
    await guest.client.writeFile(`${at}/roots/by-root`, "x");
    await guest.client.writeFile(`${at}/roots/by-nobody`, "x", { user: "nobody" });
    await guest.client.writeFile(`${at}/theirs/by-owner`, "x", { user: "1234" });
    await refused(guest.client.writeFile(`${at}/theirs/f`, "x"), "FILE_IS_SYMLINK");
    await refused(
      guest.client.writeFile(`${at}/theirs/f`, "x", { user: "nobody" }),
      "FILE_IS_SYMLINK",
    );
    await refused(guest.client.remove(`${at}/theirs/by-root`), "FILE_IS_SYMLINK");
    expect(readdirSync(`${at}/real`).sort()).toEqual(["by-nobody", "by-owner", "by-root"]);
  });

  test("refuses links that jump out of the file system's names", async () => {
    for (const path of [
      "/proc/self/root/etc/passwd",
      "/proc/1/cwd/x",
      "/proc/self/fd/3",
      "/proc/self/exe",
    ])
      await refused(guest.client.readFile(path), "FILE_IS_SYMLINK");
    await refused(guest.client.writeFile("/proc/self/root/tmp/x", "x"), "FILE_IS_SYMLINK");
    expect((await read("/proc/self/status")).toString()).toContain("Name:");
  });

  test("a path swapped with a link while it is used never leads elsewhere", async () => {
    if (!isRoot) return;
    const at = place();
    mkdirSync(`${at}/safe`);
    mkdirSync(`${at}/victim`);
    chmodSync(`${at}/victim`, 0o700);
    writeFileSync(`${at}/victim/f`, "untouched");
    chownSync(at, 1234, 1234);
    let isOn = true;
    const swapper = (async () => {
      execFileSync("setpriv", [
        "--reuid=1234",
        "--regid=1234",
        "--clear-groups",
        "ln",
        "-s",
        "victim",
        `${at}/evil`,
      ]);
      while (isOn) {
        renameSync(`${at}/safe`, `${at}/aside`);
        renameSync(`${at}/evil`, `${at}/safe`);
        await new Promise((resolve) => setImmediate(resolve));
        renameSync(`${at}/safe`, `${at}/evil`);
        renameSync(`${at}/aside`, `${at}/safe`);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 300; i++) {
      const outcome = await Promise.allSettled([
        guest.client.writeFile(`${at}/safe/f`, "attack"),
        guest.client.chmod(`${at}/safe/f`, 0o777),
      ]);
      for (const one of outcome) {
        const key =
          one.status === "fulfilled"
            ? "done"
            : BelljarError.is(one.reason)
              ? one.reason.code
              : String(one.reason);
        outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
      }
    }
    isOn = false;
    await swapper;
    expect(readFileSync(`${at}/victim/f`, "utf8")).toBe("untouched");
    expect(statSync(`${at}/victim/f`).mode & 0o777).not.toBe(0o777);
    expect(
      [...outcomes.keys()].filter(
        (key) => !["done", "FILE_IS_SYMLINK", "FILE_NOT_FOUND"].includes(key),
      ),
    ).toEqual([]);
    expect(outcomes.get("done")).toBeGreaterThan(0);
    expect(readdirSync(`${at}/victim`)).toEqual(["f"]);
  });

  test("a FIFO, a socket and a device are refused at once", async () => {
    const at = place();
    execFileSync("mkfifo", [`${at}/fifo`]);
    for (const path of [`${at}/fifo`, "/dev/zero"]) {
      await refused(guest.client.readFile(path), "FILE_NOT_REGULAR");
      await refused(guest.client.writeFile(path, "x"), "FILE_NOT_REGULAR");
      await refused(guest.client.writeFile(path, "x", { append: true }), "FILE_NOT_REGULAR");
    }
    await refused(guest.client.readFile(`${guest.directory}/socket`), "FILE_NOT_REGULAR");
    await refused(guest.client.readFile(at), "FILE_IS_DIRECTORY");
    expect(lstatSync(`${at}/fifo`).isFIFO()).toBe(true);
  });

  test("a 10 GiB sparse file is described and read in parts without being read whole", async () => {
    const at = place();
    writeFileSync(`${at}/sparse`, "head");
    truncateSync(`${at}/sparse`, 10 * 1024 ** 3);
    expect((await guest.client.stat(`${at}/sparse`)).size).toBe(10 * 1024 ** 3);
    expect(
      (await read(`${at}/sparse`, { offset: 10 * 1024 ** 3 - 5, length: 100 })).equals(
        Buffer.alloc(5),
      ),
    ).toBe(true);
    const { body } = await guest.client.readFile(`${at}/sparse`);
    for await (const chunk of body) {
      expect(Buffer.from(chunk).toString().startsWith("head")).toBe(true);
      break;
    }
    unlinkSync(`${at}/sparse`);
  });

  test("refuses paths that are not paths", async () => {
    for (const path of ["relative", "", "/a\0b", `/${"x/".repeat(2048)}`])
      await refused(guest.client.stat(path), "FILE_PATH_INVALID");
    await refused(guest.client.stat(`/${"x".repeat(256)}`), "FILE_PATH_INVALID");
    await refused(guest.client.writeFile("/", "x"), "FILE_IS_DIRECTORY");
    await refused(guest.client.stat("/../../../../no-such-file"), "FILE_NOT_FOUND");
    expect((await guest.client.stat("/")).type).toBe("directory");
  });

  test("links that go round in circles end", async () => {
    const at = place();
    symlinkSync("b", `${at}/a`);
    symlinkSync("a", `${at}/b`);
    await refused(guest.client.readFile(`${at}/a`), "FILE_IS_SYMLINK");
    await refused(guest.client.writeFile(`${at}/a/f`, "x"), "FILE_IS_SYMLINK");
  });

  test("sets, lists, gets and removes extended attributes", async () => {
    const at = place();
    writeFileSync(`${at}/f`, "");
    const value = Buffer.from([0, 1, 2, 255]);
    await guest.client.setXattr(`${at}/f`, { name: "user.one", value });
    await guest.client.setXattr(`${at}/f`, { name: "user.empty", value: Buffer.alloc(0) });
    expect((await guest.client.listXattrs(`${at}/f`)).sort()).toEqual(["user.empty", "user.one"]);
    expect(Buffer.from(await guest.client.getXattr(`${at}/f`, "user.one")).equals(value)).toBe(
      true,
    );
    expect((await guest.client.getXattr(`${at}/f`, "user.empty")).byteLength).toBe(0);
    await guest.client.removeXattr(`${at}/f`, "user.one");
    await refused(guest.client.getXattr(`${at}/f`, "user.one"), "FILE_NO_ATTRIBUTE");
    await refused(guest.client.getXattr(`${at}/f`, "security.capability"), "BAD_REQUEST");
  });

  test("watches everything below, new directories and renames included", async () => {
    const at = place();
    mkdirSync(`${at}/old/deep`, { recursive: true });
    const watch = await guest.client.watch(at);
    const seen: FileChange[] = [];
    const until = async (kind: string, path: string) => {
      for (;;) {
        const next = await watch.next();
        if (next.done === true) throw new Error(`ended: ${JSON.stringify(seen)}`);
        seen.push(next.value);
        if (next.value.kind === kind && next.value.path === path) return next.value;
      }
    };
    writeFileSync(`${at}/old/deep/f`, "x");
    await until("created", "old/deep/f");
    await until("modified", "old/deep/f");
    mkdirSync(`${at}/new/a/b`, { recursive: true });
    writeFileSync(`${at}/new/a/b/c`, "x");
    await until("created", "new/a/b/c");
    renameSync(`${at}/new`, `${at}/renamed`);
    expect(await until("renamed", "renamed")).toMatchObject({ fromPath: "new", isDirectory: true });
    await guest.client.writeFile(`${at}/renamed/a/b/c`, "changed through the guest");
    await until("modified", "renamed/a/b/c");
    chmodSync(`${at}/renamed/a/b/c`, 0o600);
    await until("attributes", "renamed/a/b/c");
    await guest.client.remove(`${at}/renamed`, { recursive: true });
    await until("removed", "renamed");
    expect(JSON.stringify(seen)).not.toContain(".belljar-");
    await guest.client.remove(at, { recursive: true });
    for await (const change of watch) seen.push(change);
  });

  test("a watch has a limit of directories, and says when events were lost", async () => {
    const at = place();
    for (let i = 0; i < 10; i++) mkdirSync(`${at}/d${i}`);
    await refused(guest.client.watch(at, { directoryCountMax: 5 }), "GUEST_BUSY");
    const watch = await guest.client.watch(at, { directoryCountMax: 11 });
    mkdirSync(`${at}/more`);
    for (;;) {
      const next = await watch.next();
      expect(next.done).not.toBe(true);
      if (next.value.kind === "overflow") break;
    }
    await watch.return?.();
  });

  test("ends its helpers when the client leaves", async () => {
    const at = place();
    const watch = await guest.client.watch(at);
    await watch.return?.();
    await expect.poll(async () => (await guest.client.stats()).processCount).toBe(2);
  });
});

describe.for(BUILDS)("ports, %s", (build: Build) => {
  const inside = `import socket,sys
s=socket.socket(socket.AF_INET6 if sys.argv[2]=="6" else socket.AF_INET); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)
s.bind(("::1" if sys.argv[2]=="6" else "127.0.0.1",int(sys.argv[1]))); s.listen(); print("up",flush=True)
while True:
    c,_=s.accept(); d=b""
    while True:
        x=c.recv(65536)
        if not x: break
        d+=x
    c.sendall(b"got %d" % len(d)); c.close()
`;

  test("pipes bytes both ways, keeps half-close, and lists who listens", async () => {
    await using guest = await startGuest(build);
    for (const [port, family] of [
      [8123, "4"],
      [8124, "6"],
    ] as const) {
      const server = await guest.client.exec({
        command: ["python3", "-c", inside, String(port), family],
        env: {},
      });
      await server.output[Symbol.asyncIterator]().next();
      const pipe = await guest.client.dialPort(port);
      pipe.end(Buffer.alloc(3_000_000));
      expect(Buffer.concat(await pipe.toArray()).toString()).toBe("got 3000000");
      expect(await guest.client.listeningPorts()).toContainEqual(
        expect.objectContaining({
          port,
          pid: server.pid,
          command: expect.stringContaining("python"),
          address: family === "6" ? "::1" : "127.0.0.1",
        }),
      );
    }
    await expect(guest.client.dialPort(9)).rejects.toSatisfy(isCode("PREVIEW_UNREACHABLE"));
    await expect(guest.client.dialPort(0)).rejects.toSatisfy(isCode("BAD_REQUEST"));
  });

  test("reaches nothing but its own loopback", async () => {
    await using guest = await startGuest(build);
    const server = createServer((socket) => socket.end("outside"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    await expect(guest.client.dialPort(address.port)).rejects.toSatisfy(
      isCode("PREVIEW_UNREACHABLE"),
    );
    server.close();
  });

  test("tells numbers that make sense", async () => {
    await using guest = await startGuest(build);
    const stats = await guest.client.stats();
    expect(stats.processCount).toBe(2);
    expect(stats.rssBytes).toBeGreaterThan(0);
    expect(stats.memoryAvailableBytes).toBeLessThanOrEqual(stats.memoryTotalBytes);
    expect(stats.diskFreeBytes).toBeLessThanOrEqual(stats.diskTotalBytes);
  });
});
