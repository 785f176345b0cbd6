/** What one sandbox can take from the host, from another sandbox, and from itself: real attempts inside. */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostPath } from "../../kernel/index.ts";
import type { SandboxDriver, SandboxSpec } from "../driver.ts";
import { Machine, WARDEN, canSandbox } from "../testing/machine.ts";

/** Numbers of the calls that the Perl scripts below make */
const CALLS =
  process.arch === "x64"
    ? { queue: 129, timer: 222, inotify: 294 }
    : { queue: 138, timer: 107, inotify: 26 };

/** Queues signals that nobody takes, and opens inotify instances, until the kernel refuses; then waits. */
const TAKE_ALL = `perl -e '
  use POSIX;
  sigprocmask(0, POSIX::SigSet->new(34 .. 60));
  $| = 1;
  my $info = pack("iii x116", 34, 0, -1);
  1 while syscall(${CALLS.queue}, $$ + 0, 34, $info) == 0;
  1 while syscall(${CALLS.inotify}, 0) >= 0;
  print "all\\n";
  sleep 1000'`;

const USE_SOME = `perl -e '
  my $event = pack("qii x48", 0, 34, 0);
  my $id = pack("q", 0);
  my $timer = syscall(${CALLS.timer}, 1, $event, $id);
  my $inotify = syscall(${CALLS.inotify}, 0);
  print $timer >= 0 ? "timer" : "no timer", $inotify >= 0 ? " inotify" : " no inotify"'`;

describe.skipIf(!canSandbox)("what is counted by user", () => {
  let machine: Machine;
  let driver: SandboxDriver;
  beforeAll(async () => {
    machine = new Machine();
    driver = await machine.driver();
  });
  afterAll(async () => machine[Symbol.asyncDispose]());

  test("one sandbox that takes every signal, timer and inotify that it gets leaves the host's and its neighbour's alone", async () => {
    const greedy = await machine.start();
    const neighbour = await machine.start();
    const guest = await machine.guest(greedy.id);
    const session = await guest.exec({ command: ["sh", "-c", TAKE_ALL], env: {}, user: "user" });
    for await (const { data } of session.output) if (Buffer.from(data).includes("all")) break;
    expect((await machine.run(greedy.id, USE_SOME, "user")).stdout).toContain("no inotify");
    expect((await machine.run(neighbour.id, USE_SOME, "user")).stdout).toBe("timer inotify");
    expect(execFileSync("sh", ["-c", USE_SOME], { encoding: "utf8" })).toBe("timer inotify");
    session.close();
    await driver.kill(greedy.id);
    await driver.kill(neighbour.id);
  });
});

/** A warden of our own making, for what the driver would not do with its own. */
async function startWarden(
  directory: string,
  words: readonly string[],
  prefix: readonly string[] = [],
) {
  const socket = join(directory, "run/w.sock");
  const all = [...prefix, WARDEN, "--socket", socket, "--run-dir", join(directory, "run")];
  const child = spawn(all[0] ?? "", [...all.slice(1), "--client-uid", "0", ...words], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let stderr = "";
  child.stderr.on("data", (text: Buffer) => (stderr += String(text)));
  const exited = once(child, "exit");
  await Promise.race([once(createInterface({ input: child.stdout }), "line"), exited]);
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  return { child, socket, stop, stderr: () => stderr, [Symbol.asyncDispose]: stop };
}

describe.skipIf(!canSandbox)("a warden at its limits", () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "belljar-limits-"));
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  test("that cannot look at its sandboxes for want of descriptors does not take them for dead", async () => {
    const words = ["--pool", join(directory, "pool")];
    const first = await startWarden(directory, words);
    const wardenSocket = hostPath(first.socket);
    const machine = new Machine({ wardenSocket, pool: "directory" });
    const specs: SandboxSpec[] = [];
    for (let i = 0; i < 24; i++) specs.push(await machine.start());
    const ids = specs.map(({ id }) => id).sort();
    const living = async () => (await (await machine.driver()).list()).map(({ id }) => id).sort();
    expect(await living()).toEqual(ids);
    await first.stop();
    await using poor = await startWarden(directory, words, ["prlimit", "--nofile=20:20"]);
    expect(poor.child.exitCode).toBe(71);
    expect(poor.stderr()).toContain("Too many open files");
    await using raised = await startWarden(directory, words, ["prlimit", "--nofile=20:4096"]);
    expect(await living()).toEqual(ids);
    for (const { id } of specs) {
      expect((await machine.run(id, "echo up")).stdout).toBe("up\n");
    }
    await machine[Symbol.asyncDispose]();
    expect(raised.child.exitCode).toBeNull();
  });

  test("does not start where somebody else may write state files", async () => {
    const open = join(directory, "open");
    mkdirSync(join(open, "run"), { recursive: true });
    execFileSync("mount", ["-t", "tmpfs", "-o", "mode=0777", "tmpfs", join(open, "run")]);
    try {
      await using refused = await startWarden(open, []);
      expect(refused.child.exitCode).toBe(77);
      chmodSync(join(open, "run"), 0o755);
      chownSync(join(open, "run"), 54_321, 0);
      await using foreign = await startWarden(open, []);
      expect(foreign.child.exitCode).toBe(77);
      chownSync(join(open, "run"), 0, 0);
      await using accepted = await startWarden(open, []);
      expect(accepted.child.exitCode).toBeNull();
    } finally {
      execFileSync("umount", [join(open, "run")]);
    }
  });

  test.skipIf(!existsSync("/sys/fs/cgroup/freezer"))(
    "a kill in the middle of a v1 freeze ends the sandbox",
    { timeout: 30_000 },
    async () => {
      const root = "/sys/fs/cgroup/freezer/belljar-test-v1";
      await using warden = await startWarden(directory, [
        ...["--pool", join(directory, "pool"), "--cgroup-root", root],
      ]);
      await using machine = new Machine({
        wardenSocket: hostPath(warden.socket),
        pool: "directory",
      });
      const driver = await machine.driver();
      for (let i = 0; i < 4; i++) {
        const { id } = await machine.start();
        await machine.run(id, "for i in $(seq 12); do sh -c 'while :; do :; done' & done");
        const frozen = driver.freeze(id).catch((error: unknown) => error);
        await driver.kill(id);
        await frozen;
      }
      expect(readdirSync(root, { withFileTypes: true }).filter((e) => e.isDirectory())).toEqual([]);
    },
  );
});
