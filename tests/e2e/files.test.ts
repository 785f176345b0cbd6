import { createHash, randomBytes } from "node:crypto";
import http from "node:http";
import { ApiFailure } from "./support/api.ts";
import { until } from "./support/machine.ts";
import { expect, test } from "./fixture.ts";

const route = (id: string, path: string, what = "/content", query = "") =>
  `/v1/sandboxes/${id}/files${what}?path=${encodeURIComponent(path)}${query}`;

test("a file comes back as it was written, with its owner and mode", async ({
  belljar,
  createSandbox,
}) => {
  const { files } = await belljar.sandboxes.get((await createSandbox()).id);
  const data = randomBytes(300_000);
  const stat = await files.write("/home/user/a/b/c.bin", data, { mode: "0640" });
  expect(stat).toMatchObject({ size: data.length, mode: "0640", owner: "user", type: "file" });
  expect(Buffer.from(await files.read("/home/user/a/b/c.bin")).equals(data)).toBe(true);
  expect(
    Buffer.from(await files.read("/home/user/a/b/c.bin", { offset: 100, length: 50 })),
  ).toEqual(data.subarray(100, 150));
  await files.move("/home/user/a/b/c.bin", "/home/user/d.bin");
  expect(await files.exists("/home/user/a/b/c.bin")).toBe(false);
  expect((await files.list("/home/user")).items.map(({ name }) => name)).toContain("d.bin");
  await files.remove("/home/user/a", { recursive: true });
  await files.setAttributes("/home/user/d.bin", {
    "user.note": Buffer.from("hi").toString("base64"),
  });
  expect(await files.attributes("/home/user/d.bin")).toEqual({ "user.note": "aGk=" });
  await files.changeMode("/home/user/d.bin", "0600");
  expect((await files.stat("/home/user/d.bin")).mode).toBe("0600");
});

test("a large body streams both ways without the daemon holding it", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const chunk = randomBytes(2 ** 20);
  const chunks = 300;
  const sent = createHash("sha256");
  await new Promise<void>((resolve, reject) => {
    const headers = {
      authorization: `Bearer ${daemon.token}`,
      "content-type": "application/octet-stream",
    };
    const request = http.request(
      `${daemon.url}${route(id, "/home/user/large")}`,
      { method: "PUT", headers },
      (response) => {
        response.resume();
        response.on("end", () =>
          response.statusCode === 200 || response.statusCode === 201
            ? resolve()
            : reject(new Error(`${response.statusCode}`)),
        );
      },
    );
    request.on("error", reject);
    const feed = (left: number): void => {
      for (let count = left; count > 0; count -= 1) {
        sent.update(chunk);
        if (!request.write(chunk)) {
          request.once("drain", () => feed(count - 1));
          return;
        }
      }
      request.end();
    };
    feed(chunks);
  });
  const inside = await api.exec(id, "sha256sum < /home/user/large");
  expect(inside.stdout.slice(0, 64)).toBe(sent.digest("hex"));
  const status = await import("node:fs").then((fs) =>
    fs.readFileSync(`/proc/${daemon.pid}/status`, "utf8"),
  );
  expect(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1])).toBeLessThan(400 * 1024);
});

test("an upload that is cut off leaves the old file and no litter", async ({
  api,
  daemon,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  await api.write(id, "/home/user/precious", "old");
  const headers = {
    authorization: `Bearer ${daemon.token}`,
    "content-length": "1000000",
    "content-type": "application/octet-stream",
  };
  const request = http.request(`${daemon.url}${route(id, "/home/user/precious")}`, {
    method: "PUT",
    headers,
  });
  request.on("error", () => undefined);
  await new Promise((resolve) => request.write(randomBytes(100_000), resolve));
  await new Promise((resolve) => setTimeout(resolve, 50));
  request.destroy();
  const visible = async () => (await api.exec(id, "ls -A /home/user")).stdout;
  await until(
    "temporary files are gone",
    async () => !/precious.+|\.belljar|tmp/.test(await visible()),
  );
  expect((await api.read(id, "/home/user/precious")).toString()).toBe("old");
});

test.for([
  { what: "no path", path: "", status: 400, code: undefined },
  { what: "a relative path", path: "etc/passwd", status: 400, code: undefined },
  { what: "a path with NUL", path: "/home/user/a\0b", status: 400, code: undefined },
  { what: "a path of 5,000 bytes", path: `/${"a".repeat(5000)}`, status: 400, code: undefined },
  {
    what: "a name of 300 bytes",
    path: `/home/user/${"a".repeat(300)}`,
    status: 400,
    code: undefined,
  },
  {
    what: "a file that is not there",
    path: "/home/user/none",
    status: 404,
    code: "FILE_NOT_FOUND",
  },
  { what: "a directory", path: "/home/user", status: 422, code: "FILE_IS_DIRECTORY" },
  { what: "a path through a file", path: "/etc/passwd/x", status: 422, code: "FILE_NOT_DIRECTORY" },
  {
    what: "a file that `user` may not read",
    path: "/etc/shadow-of-test",
    status: 403,
    code: "FILE_PERMISSION",
  },
  { what: "a FIFO", path: "/home/user/fifo", status: 422, code: "FILE_NOT_REGULAR" },
  { what: "a device", path: "/dev/zero", status: 422, code: "FILE_NOT_REGULAR" },
])("reading $what is refused", async ({ path, status, code }, { api, createSandbox }) => {
  const { id } = await createSandbox();
  await api.exec(id, "mkfifo /home/user/fifo; echo ok > /home/user/neighbour");
  await api.exec(id, "echo s > /etc/shadow-of-test; chmod 600 /etc/shadow-of-test", {
    user: "root",
  });
  const answer = await api.call("GET", route(id, path));
  expect(answer.status).toBe(status);
  if (code !== undefined) expect(new ApiFailure("read", answer).code).toBe(code);
  expect((await api.read(id, "/home/user/neighbour")).toString()).toBe("ok\n");
});

test("what `..` in a path names stays inside the sandbox", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  const answer = await api.call("GET", route(id, "/home/user/../../../../../../etc/passwd"));
  if (answer.status === 200) expect(answer.body.toString()).toContain("user:x:1000");
  else expect(answer.status).toBe(400);
});

test("a symbolic link as the last part is not written through to somewhere else", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  await api.exec(
    id,
    "mkdir -p /srv2; echo safe > /srv2/target; chmod 777 /srv2; chmod 666 /srv2/target",
    { user: "root" },
  );
  await api.exec(id, "ln -s /srv2/target /home/user/link");
  const answer = await api.call("PUT", route(id, "/home/user/link"), { raw: "evil" });
  expect((await api.exec(id, "cat /srv2/target")).stdout).toBe("safe\n");
  // Either refused by name, or the link itself was replaced: never the target.
  expect([200, 201, 422]).toContain(answer.status);
});

test("root's ownership change never follows a link", async ({ api, createSandbox }) => {
  const { id } = await createSandbox();
  await api.exec(id, "ln -s /etc/passwd /home/user/link");
  const answer = await api.call("POST", `/v1/sandboxes/${id}/files/owner`, {
    body: { path: "/home/user/link", owner: "user" },
  });
  expect(new ApiFailure("owner", answer).code).toBe("FILE_IS_SYMLINK");
  expect((await api.exec(id, "stat -c %U /etc/passwd")).stdout).toBe("root\n");
});

test("root's ownership change through a swapped parent directory never reaches another tree", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  await api.exec(
    id,
    "mkdir -p /vault /home/user/real; echo s > /vault/f; echo u > /home/user/real/f; chown user /home/user/real /home/user/real/f; ln -s /vault /home/user/evil; chown -h user /home/user/evil",
    { user: "root" },
  );
  const swap = "cd /home/user; while :; do mv real x; mv evil real; mv real evil; mv x real; done";
  const racer = await api.json<{ pid: number }>("POST", `/v1/sandboxes/${id}/processes`, {
    body: { command: swap },
  });
  for (let round = 0; round < 200; round += 1) {
    await api.call("POST", `/v1/sandboxes/${id}/files/owner`, {
      body: { path: "/home/user/real/f", owner: "user" },
    });
  }
  await api.json("POST", `/v1/sandboxes/${id}/processes/${racer.pid}/signal`, {
    body: { signal: "SIGKILL" },
  });
  expect((await api.exec(id, "stat -c %U /vault/f")).stdout).toBe("root\n");
});

test("a sparse file of 10 GiB is looked at and read in part at once", async ({
  api,
  belljar,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const made = await api.exec(id, "truncate -s 10G /home/user/sparse");
  expect(made.exitCode).toBe(0);
  const { files } = await belljar.sandboxes.get(id);
  expect((await files.stat("/home/user/sparse")).size).toBe(10 * 2 ** 30);
  expect((await files.read("/home/user/sparse", { offset: 9 * 2 ** 30, length: 10 })).length).toBe(
    10,
  );
  const abort = new AbortController();
  const stream = await files.readStream("/home/user/sparse", { signal: abort.signal });
  await stream.getReader().read();
  abort.abort();
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
});

test("a FIFO without a reader blocks neither the write nor the sandbox", async ({
  api,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  await api.exec(id, ["mkfifo", "/home/user/fifo"]);
  const answer = await api.call("PUT", route(id, "/home/user/fifo"), { raw: "x" });
  expect([200, 201, 422]).toContain(answer.status);
  expect((await api.exec(id, ["true"])).exitCode).toBe(0);
});

test("the workspace's limit stops a writer and says so", async ({ api, daemon, createSandbox }) => {
  const status = await api.json<{ driver: { storagePool: string } }>("GET", "/v1/status");
  const diskBytes = 64 * 2 ** 20;
  if (status.driver.storagePool === "directory") {
    const refused = await api.call("POST", "/v1/sandboxes", { body: { limits: { diskBytes } } });
    expect(new ApiFailure("create", refused).code).toBe("LIMIT_UNSUPPORTED");
    return;
  }
  const { id } = await createSandbox({ limits: { diskBytes } });
  const filler = await api.exec(id, "head -c 200000000 /dev/urandom > /home/user/filler");
  expect(filler.exitCode).not.toBe(0);
  expect(filler.stderr).toMatch(/quota|space/i);
  const upload = await api.call("PUT", route(id, "/home/user/more"), {
    raw: randomBytes(10 * 2 ** 20),
  });
  expect(new ApiFailure("write", upload).code).toBe("FILE_NO_SPACE");
  expect((await api.exec(id, "rm /home/user/filler && echo x > /home/user/small")).exitCode).toBe(
    0,
  );
  expect(daemon.child.process.exitCode).toBeNull();
});

test("a watch tells of changes as they happen, deeper ones too", async ({
  api,
  belljar,
  createSandbox,
}) => {
  const { id } = await createSandbox();
  const { files } = await belljar.sandboxes.get(id);
  await files.makeDirectory("/home/user/watched/deep");
  const abort = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const change of files.watch("/home/user/watched", { signal: abort.signal }))
      seen.push(change.path);
  })().catch(() => undefined);
  await until("the watch sees a file", async () => {
    await api.exec(id, "date > /home/user/watched/deep/file");
    return seen.some((path) => path.includes("deep/file"));
  });
  abort.abort();
  await watching;
});

test.for([
  "/proc/self/mem",
  "/proc/self/exe",
  "/proc/self/fd/0",
  "/proc/self/fd/3",
  "/proc/1/mem",
  "/proc/1/environ",
  "/proc/kmsg",
  "/proc/self/pagemap",
  "/dev/stdin",
  "/dev/ptmx",
  "/dev/tty",
])(
  "reading, writing and removing %s as root neither hangs nor harms the guest",
  async (target, { api, createSandbox }) => {
    const { id } = await createSandbox();
    const signal = AbortSignal.timeout(10_000);
    const calls = [
      api.call("GET", route(id, target, "/content", "&user=root&length=4096"), { signal }),
      api.call("PUT", route(id, target, "/content", "&user=root"), { raw: "x", signal }),
      api.call("GET", route(id, target, "/stat", "&user=root"), { signal }),
      api.call("DELETE", route(id, target, "", "&user=root"), { signal }),
    ];
    for (const answer of await Promise.all(calls))
      expect(answer.body.toString()).not.toContain("INTERNAL");
    expect((await api.exec(id, ["echo", "well"])).stdout).toBe("well\n");
    expect((await api.get(id)).state).toBe("running");
  },
);
