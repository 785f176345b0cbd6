import { execFile, spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostPath, newSandboxId } from "../../kernel/index.ts";
import { GUEST, Machine, WARDEN, WARDEN_DIR, canSandbox } from "../testing/machine.ts";
import { compileSeccomp } from "./seccomp.ts";
import { planOf } from "./plan.ts";
import type { PlanRecord } from "./wire.ts";
import { ANSWERS, HEADER_BYTES, decodeRecords, encodeRequest } from "./wire.ts";

const EBADMSG = 74;
const OTHER_UID = 54_321;

/** Sends bytes and gives what comes back until the peer closes or `framesMax` frames are there. */
function exchange(path: string, bytes: Uint8Array, framesMax = 1): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    let pending = Buffer.alloc(0);
    const frames: Buffer[] = [];
    const end = () => {
      socket.destroy();
      resolve(frames);
    };
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "EPIPE" || error.code === "ECONNRESET" ? end() : reject(error),
    );
    socket.on("close", end);
    socket.on("data", (chunk: Buffer) => {
      pending = Buffer.concat([pending, chunk]);
      while (
        pending.length >= HEADER_BYTES &&
        pending.length >= HEADER_BYTES + pending.readUInt32LE(0)
      ) {
        const length = HEADER_BYTES + pending.readUInt32LE(0);
        frames.push(pending.subarray(0, length));
        pending = pending.subarray(length);
      }
      if (frames.length >= framesMax) end();
    });
    socket.write(bytes);
  });
}

function errnoOf(frame: Buffer | undefined): number {
  const records = decodeRecords((frame ?? Buffer.alloc(HEADER_BYTES)).subarray(HEADER_BYTES));
  return records.find(({ tag }) => tag === ANSWERS.error)?.value.readUInt32LE(0) ?? 0;
}

describe.skipIf(!canSandbox)("the warden's socket", () => {
  let machine: Machine;
  let socket: string;
  let plan: PlanRecord[];

  beforeAll(async () => {
    machine = new Machine();
    await machine.driver();
    socket = join(machine.runDir, "warden.sock");
    plan = planOf(machine.spec(), {
      isPrivileged: true,
      uid: 0,
      gid: 0,
      canIdmap: true,
      guest: hostPath(GUEST),
      cgroups: { mode: "none", roots: [] },
      openFilesMax: 1024,
      seccomp: compileSeccomp("x64"),
    });
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  const check = async (records: readonly PlanRecord[]) =>
    errnoOf((await exchange(socket, encodeRequest("check", 1, records)))[0]);

  test("it belongs to the client alone, and the run directory shows nobody its files", () => {
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    expect(statSync(machine.runDir).mode & 0o066).toBe(0);
  });

  test("a whole plan passes; one that lacks a required step, repeats one or turns the order round does not", async () => {
    expect(await check(plan)).toBe(0);
    for (const name of [
      "id",
      "guest",
      "userNamespace",
      "overlay",
      "pivot",
      "enter",
      "capabilities",
      "noNewPrivileges",
    ]) {
      expect(await check(plan.filter(([step]) => step !== name)), name).toBe(EBADMSG);
      expect(
        await check(plan.flatMap((record) => (record[0] === name ? [record, record] : [record]))),
        name,
      ).toBe(EBADMSG);
    }
    expect(await check(plan.toReversed())).toBe(EBADMSG);
  });

  const replaced = (name: string, record: PlanRecord) =>
    plan.map((old) => (old[0] === name ? record : old));
  test.for<[string, PlanRecord]>([
    ["an id with a slash", ["id", "../../../../../etc/x"]],
    ["an id in upper case", ["id", "A".repeat(20)]],
    ["an id of 25 characters", ["id", "a".repeat(25)]],
    ["a relative guest", ["guest", "guest"]],
    ["a range that holds root of the host", ["userNamespace", 0, 0x4000_0000, 65_536]],
    ["a range that holds people", ["userNamespace", 1000, 1000, 1]],
    ["a range past the last id", ["userNamespace", 0xffff_0000, 0xffff_0000, 65_536]],
    ["an empty range", ["userNamespace", 0x4000_0000, 0x4000_0000, 0]],
    ["a target with dots", ["bind", 1, "/usr", "/../usr"]],
    ["a relative target", ["bind", 1, "/usr", "usr"]],
    ["a sysctl of the whole machine", ["sysctl", "kernel/core_pattern", "|/bin/sh"]],
    ["a sysctl that climbs", ["sysctl", "net/../kernel/core_pattern", "x"]],
    ["a resource limit that is none", ["resourceLimit", 99, 0, 0]],
    ["a filter that is no program", ["seccomp", 0, new Uint8Array(7)]],
  ])("%s is refused", async ([, record]) => {
    expect(await check(replaced(record[0], record))).toBe(EBADMSG);
  });

  test("a cgroup file with a path in its name, or of a root that is none, is refused", async () => {
    expect(await check([...plan.slice(0, 5), ["cgroup", 99, 1], ...plan.slice(5)])).toBe(EBADMSG);
    expect(
      await check([
        ...plan.slice(0, 5),
        ["cgroupFile", 0, 0, "../pids.max", "1"],
        ...plan.slice(5),
      ]),
    ).toBe(EBADMSG);
    expect(await check([...plan.slice(0, 5), ["cgroup", 0, 1], ...plan.slice(5)])).toBe(0);
  });

  test("plans cut anywhere or with any byte changed are answered, and the warden serves on", async () => {
    const frame = encodeRequest("check", 7, plan);
    const broken: Buffer[] = [];
    for (let at = HEADER_BYTES; at < frame.length; at += 13) {
      const cut = Buffer.from(frame.subarray(0, at));
      cut.writeUInt32LE(at - HEADER_BYTES, 0);
      const flipped = Buffer.from(frame);
      flipped.writeUInt8(flipped.readUInt8(at) ^ (1 << (at % 8)), at);
      broken.push(cut, flipped);
    }
    const frames = await exchange(socket, Buffer.concat(broken), broken.length);
    expect(frames).toHaveLength(broken.length);
    expect(frames.filter((answer) => errnoOf(answer) === EBADMSG).length).toBeGreaterThan(
      broken.length / 2,
    );
    expect(await check(plan)).toBe(0);
  });

  test("a frame that is too long, or without an id, ends that connection and no other", async () => {
    const long = Buffer.alloc(HEADER_BYTES);
    long.writeUInt32LE(256 * 1024 + 1, 0);
    long.writeUInt32LE(1, 4);
    expect(await exchange(socket, long)).toEqual([]);
    const anonymous = encodeRequest("list", 1, []);
    anonymous.writeUInt32LE(0, 4);
    expect(await exchange(socket, anonymous)).toEqual([]);
    expect(await check(plan)).toBe(0);
  });

  test("an unknown operation is answered with an error", async () => {
    const unknown = encodeRequest("list", 3, []);
    unknown.writeUInt32LE(55, 8);
    expect(errnoOf((await exchange(socket, unknown))[0])).toBeGreaterThan(0);
  });

  test("another user's process gets no answer, whatever the socket's mode", async () => {
    const script = `
      const s = require("net").connect(${JSON.stringify(socket)});
      let n = 0; s.on("data", (d) => { n += d.length; }); s.on("error", (e) => console.log(e.code));
      s.on("close", () => console.log("bytes", n)); s.write(Buffer.from(${JSON.stringify([...encodeRequest("list", 1, [])])}));`;
    const run = (uid: number) =>
      spawnSync(process.execPath, ["-e", script], {
        uid,
        gid: uid,
        encoding: "utf8",
        timeout: 3000,
      });
    await promisify(execFile)("chmod", ["0666", socket]);
    await promisify(execFile)("chmod", ["0755", machine.directory]);
    expect(run(OTHER_UID).stdout).toMatch(/bytes 0|EPIPE|ECONNRESET|EACCES/);
    expect(run(OTHER_UID).stdout).not.toMatch(/bytes [1-9]/);
    await promisify(execFile)("chmod", ["0600", socket]);
    expect(await check(plan)).toBe(0);
  });

  test("a second warden on the same run directory does not start, and the first serves on", async () => {
    const second = spawnSync(
      WARDEN,
      ["--socket", `${socket}2`, "--run-dir", machine.runDir, "--client-uid", "0"],
      { encoding: "utf8" },
    );
    expect(second.status).toBe(75);
    expect(second.stderr).toContain("another warden");
    expect(await check(plan)).toBe(0);
  });
});

describe.skipIf(!canSandbox)("a warden that dies", () => {
  test("kill -9 in the middle of fifty creates leaves nothing unknown: what runs is adopted, the rest is gone", async () => {
    const machine = new Machine();
    await using _ = machine;
    const driver = await machine.driver();
    const specs = Array.from({ length: 50 }, () => machine.spec(newSandboxId()));
    for (const spec of specs) await driver.ensureVolume(spec.id, { slot: spec.slot });
    const started = specs.map((spec) => driver.start(spec));
    const outcomes = Promise.allSettled(started);
    await Promise.any(started);
    process.kill(machine.wardenPid(), "SIGKILL");
    const settled = await outcomes;
    await expect
      .poll(() =>
        driver.list().then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    const living = new Set((await driver.list()).map(({ id }) => id));
    const told = specs.filter((_spec, index) => settled[index]?.status === "fulfilled");
    expect(living).toEqual(new Set(told.map(({ id }) => id)));
    for (const id of living) expect((await machine.run(id, "echo up")).stdout).toBe("up\n");
    await expect.poll(() => machine.guests().length).toBe(living.size);
    const known = readdirSync(machine.runDir).filter((name) => name.endsWith(".state"));
    expect(new Set(known.map((name) => name.slice(0, 20)))).toEqual(living);
    for (const id of living) await driver.kill(id);
    expect(machine.traces()).toEqual([]);
  });

  test("an adopted sandbox can be frozen, dialled, measured and killed, and its end is told", async () => {
    const machine = new Machine();
    await using _ = machine;
    const driver = await machine.driver();
    const one = await machine.start();
    const other = await machine.start();
    await driver.freeze(other.id);
    process.kill(machine.wardenPid(), "SIGKILL");
    await expect
      .poll(() =>
        driver.list().then(
          (list) => list.length,
          () => 0,
        ),
      )
      .toBe(2);
    expect((await driver.list()).find(({ id }) => id === other.id)?.state).toBe("frozen");
    await driver.freeze(one.id);
    await driver.thaw(one.id);
    expect((await driver.usage(one.id)).processCount).toBe(1);
    await expect(driver.dialPort(one.id, 9)).rejects.toMatchObject({ code: "PREVIEW_UNREACHABLE" });
    const ended = new Promise((resolve) => driver.onExit(({ id }) => id === one.id && resolve(id)));
    process.kill(machine.guestOf(one.id), "SIGKILL");
    expect(await ended).toBe(one.id);
    await driver.kill(other.id);
    expect(machine.traces()).toEqual([]);
  });

  test("a sandbox that ends while there is no warden is told once there is one again", async () => {
    const machine = new Machine();
    await using _ = machine;
    const driver = await machine.driver();
    const { id } = await machine.start();
    const ended = new Promise((resolve) =>
      driver.onExit((exit) => exit.id === id && resolve(exit)),
    );
    const guest = machine.guestOf(id);
    process.kill(machine.wardenPid(), "SIGKILL");
    process.kill(guest, "SIGKILL");
    expect(await ended).toMatchObject({ id, exitCode: null });
    expect(machine.traces()).toEqual([]);
  });

  test("state files of another boot, of another process or of nothing are swept away", async () => {
    const machine = new Machine();
    await using _ = machine;
    const driver = await machine.driver();
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const states: Record<string, string> = {
      aaaaaaaaaaaaaaaaaaaa: `1 ${"0".repeat(36)} ${process.pid} 1 1 1\n`,
      bbbbbbbbbbbbbbbbbbbb: `1 ${boot} ${process.pid} 1 1 1\n`,
      cccccccccccccccccccc: `1 ${boot} 1 0 0 0\n/etc\n`,
      dddddddddddddddddddd: "garbage",
      eeeeeeeeeeeeeeeeeeee: `1 ${boot} ${process.pid} 1 1 1\n/etc/eeeeeeeeeeeeeeeeeeee/../passwd`,
    };
    for (const [id, text] of Object.entries(states)) {
      writeFileSync(join(machine.runDir, `${id}.state`), text);
      writeFileSync(join(machine.runDir, `${id}.sock`), "");
    }
    process.kill(machine.wardenPid(), "SIGKILL");
    await expect.poll(() => driver.list()).toEqual([]);
    expect(readdirSync(machine.runDir).filter((name) => /\.(state|sock)$/.test(name))).toEqual([
      "warden.sock",
    ]);
    expect(existsSync("/etc/passwd")).toBe(true);
  });

  test("a new driver finds the sandboxes that the one before left running", async () => {
    const machine = new Machine();
    const { id } = await machine.start();
    const left = await machine.driver();
    await left[Symbol.asyncDispose]();
    const next = new Machine({ ...machine.options });
    const driver = await next.driver();
    expect((await driver.list()).map((box) => box.id)).toEqual([id]);
    await driver.kill(id);
    await driver.removeVolume(id);
    await next[Symbol.asyncDispose]();
    await rm(machine.directory, { recursive: true, force: true });
  });
});

describe.skipIf(!canSandbox)("a warden that something else starts", () => {
  test("serves with the cgroup roots that it was given, and outlives the driver", async () => {
    const directory = mkdtempSync(join(tmpdir(), "belljar-external-"));
    const runDir = join(directory, "run");
    const root = "/sys/fs/cgroup/unified/belljar-test-external";
    const pool = join(directory, "volumes");
    const words = [
      "--socket",
      join(runDir, "w.sock"),
      "--run-dir",
      runDir,
      "--client-uid",
      "0",
      "--pool",
      pool,
    ];
    const isHybrid = existsSync(dirname(root));
    const warden = spawn(WARDEN, [...words, ...(isHybrid ? ["--cgroup-root", root] : [])], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise((resolve) => warden.stdout.once("data", resolve));
    const machine = new Machine({
      wardenSocket: hostPath(join(runDir, "w.sock")),
      pool: "directory",
    });
    const driver = await machine.driver();
    expect((await driver.capabilities()).cgroup).toBe(isHybrid ? "v2" : "none");
    const { id } = await machine.start();
    expect((await machine.run(id, "echo up")).stdout).toBe("up\n");
    if (isHybrid) await driver.freeze(id);
    await driver.kill(id);
    await driver.removeVolume(id);
    await machine[Symbol.asyncDispose]();
    expect(warden.exitCode).toBeNull();
    warden.kill("SIGTERM");
    await new Promise((resolve) => warden.once("exit", resolve));
    expect(warden.exitCode).toBe(0);
    expect(existsSync(root)).toBe(false);
    await rm(directory, { recursive: true });
  });
});

describe("the plan parser under ASan and UBSan", () => {
  test("a hundred thousand mutated plans do no harm", async () => {
    await promisify(execFile)("make", ["-C", WARDEN_DIR, "-s", "fuzz"]);
    const { stdout } = await promisify(execFile)(join(WARDEN_DIR, "build/fuzz-plan"), ["100000"]);
    expect(stdout).toMatch(/^parsed 100000 plans, [1-9]\d* accepted/);
  });
});

describe.skipIf(!canSandbox)("a warden without root", () => {
  test("starts a sandbox with what user namespaces alone give, and says what is missing", async () => {
    const directory = mkdtempSync(join(tmpdir(), "belljar-rootless-"));
    const script = join(import.meta.dirname, "../testing/rootless.ts");
    const child = spawn(process.execPath, ["-C", "belljar-source", script, directory], {
      uid: OTHER_UID,
      gid: OTHER_UID,
      stdio: ["ignore", "pipe", "pipe"],
    });
    await promisify(execFile)("chown", [String(OTHER_UID), directory]);
    const texts = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (texts[0] += String(chunk)));
    child.stderr.on("data", (chunk: Buffer) => (texts[1] += String(chunk)));
    await new Promise((resolve) => child.once("exit", resolve));
    await rm(directory, { recursive: true, force: true });
    expect(texts[1]).toBe("");
    const said = JSON.parse(texts[0] ?? "{}") as Record<string, unknown>;
    expect(said).toMatchObject({
      refused: "LAYER_UNSUPPORTED",
      uid: "0",
      isPrivileged: false,
      left: [],
    });
    expect(said["missing"]).toEqual(expect.arrayContaining(["own-id-range", "cgroup-memory"]));
    expect(said["disk"]).toEqual([
      expect.objectContaining({ layer: "disk-bytes", inForce: false }),
    ]);
  });
});
