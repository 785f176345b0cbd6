import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import { expect, test } from "vitest";
import { type Finished, run } from "./support/child.ts";
import { daemonArgv, startDaemon, stopAndLook } from "./support/daemon-process.ts";
import { findLeftovers } from "./support/leftovers.ts";
import { freePort, temporaryDirectory } from "./support/machine.ts";

/** Starts a daemon that is expected to refuse. */
async function refused(
  dataDir: string,
  port?: number,
  args: readonly string[] = [],
): Promise<Finished> {
  const argv = [
    ...daemonArgv(),
    "--data-dir",
    dataDir,
    "--port",
    String(port ?? (await freePort())),
    ...args,
  ];
  return run(argv, { timeoutMs: 20_000 });
}

const NOTHING = { processes: [], mounts: [], cgroups: [], sockets: [] };

test("a second daemon on one data directory is refused, and the first does not notice", async () => {
  await using first = await startDaemon();
  const { code, stderr, stdout } = await refused(first.dataDir);
  expect(code).not.toBe(0);
  expect(stderr + stdout).toContain("DATA_DIR_IN_USE");
  expect(stderr + stdout).toContain(String(first.pid));
  expect((await first.api.call("GET", "/healthz")).status).toBe(200);
  expect(await stopAndLook(first)).toEqual(NOTHING);
});

test("a killed daemon leaves no lock that stops the next", async () => {
  using directory = temporaryDirectory("lock");
  const first = await startDaemon({ dataDir: directory.path });
  await first.kill();
  const second = await startDaemon({ dataDir: directory.path, token: first.token });
  expect((await second.api.call("GET", "/v1/status")).status).toBe(200);
  expect(await stopAndLook(second)).toEqual(NOTHING);
  await second[Symbol.asyncDispose]();
});

test("a port that is taken is said so, with its number", async () => {
  using directory = temporaryDirectory("port");
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const { code, stderr, stdout } = await refused(directory.path, port);
  server.close();
  expect(code).not.toBe(0);
  expect(stderr + stdout).toContain("PORT_TAKEN");
  expect(stderr + stdout).toContain(String(port));
  expect(findLeftovers(directory.path, [])).toEqual(NOTHING);
});

test("a data directory that is a file, or below one, is refused", async () => {
  using directory = temporaryDirectory("file");
  const file = path.join(directory.path, "file");
  writeFileSync(file, "");
  for (const dataDir of [file, path.join(file, "below")]) {
    const { code, stderr, stdout } = await refused(dataDir);
    expect(code).not.toBe(0);
    expect(stderr + stdout).toContain("DATA_DIR_UNUSABLE");
    expect(stderr + stdout).not.toMatch(/\n\s+at /);
  }
});

test("a read-only data directory is refused with its path", async () => {
  using directory = temporaryDirectory("readonly");
  const dataDir = path.join(directory.path, "data");
  mkdirSync(dataDir);
  const isRoot = process.getuid?.() === 0;
  // Root writes through permission bits, so for root the file system itself must refuse.
  if (isRoot) await run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", dataDir]);
  else chmodSync(dataDir, 0o500);
  try {
    const { code, stderr, stdout } = await refused(dataDir);
    expect(code).not.toBe(0);
    expect(stderr + stdout).toContain("DATA_DIR_UNUSABLE");
    expect(stderr + stdout).toContain(dataDir);
  } finally {
    if (isRoot) await run(["umount", dataDir]);
    else chmodSync(dataDir, 0o700);
  }
});

test("a full disk fails creates with a code, and the daemon serves on when there is room again", async ({
  skip,
}) => {
  if (process.getuid?.() !== 0) {
    skip(process.env["BELLJAR_MUST_SANDBOX"] !== "1", "mounting a small disk needs root");
  }
  using directory = temporaryDirectory("full");
  const dataDir = path.join(directory.path, "data");
  mkdirSync(dataDir);
  await run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", dataDir]);
  try {
    const daemon = await startDaemon({ dataDir, args: ["--storage.pool", "directory"] });
    const first = await daemon.api.create();
    daemon.sandboxIds.add(first.id);
    const filler = path.join(dataDir, "filler");
    await run(["dd", "if=/dev/zero", `of=${filler}`, "bs=64k"]);
    for (let round = 0; round < 10; round += 1) {
      const answer = await daemon.api.call("POST", "/v1/sandboxes", { body: {} });
      if (answer.status === 201 || answer.status === 200) continue;
      expect([500, 503, 507]).toContain(answer.status);
      expect(answer.body.toString()).toMatch(
        /STORAGE_FAILED|FILE_NO_SPACE|WARDEN_REFUSED|SANDBOX_START_FAILED/,
      );
    }
    expect((await daemon.api.call("GET", "/healthz")).status).toBe(200);
    await run(["rm", filler]);
    const later = await daemon.api.create();
    expect((await daemon.api.exec(later.id, ["true"])).exitCode).toBe(0);
    const listed = await daemon.api.list();
    expect(listed.filter(({ state }) => state === "creating")).toEqual([]);
    const left = await stopAndLook(daemon);
    expect({ ...left, mounts: left.mounts.length }).toEqual({ ...NOTHING, mounts: 1 });
    await daemon[Symbol.asyncDispose]();
  } finally {
    await run(["umount", "-l", dataDir]);
  }
});

test("junk in the configuration is refused, all of it at once", async () => {
  using directory = temporaryDirectory("config");
  const { code, stderr, stdout } = await refused(directory.path, undefined, [
    "--no.such",
    "1",
    "--sandboxes.countMax",
    "many",
    "--previews.domain",
    "UPPER",
  ]);
  expect(code).not.toBe(0);
  const said = stderr + stdout;
  for (const needle of ["CONFIG_INVALID", "countMax", "domain"]) expect(said).toContain(needle);
});
