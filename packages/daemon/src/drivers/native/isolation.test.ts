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
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { BelljarError } from "@belljar/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostPath, newSandboxId } from "../../kernel/index.ts";
import type { SandboxDriver, SandboxSpec } from "../driver.ts";
import { GUEST, Machine, WARDEN, canSandbox } from "../testing/machine.ts";
import { planOf } from "./plan.ts";
import { compileSeccomp } from "./seccomp.ts";
import { HEADER_BYTES, encodeRequest } from "./wire.ts";

/** Numbers of the calls that the Perl scripts below make */
const CALLS =
  process.arch === "x64"
    ? { queue: 129, timer: 222, inotify: 294, ptrace: 101, setxattr: 188, mknodat: 259 }
    : { queue: 138, timer: 107, inotify: 26, ptrace: 117, setxattr: 5, mknodat: 33 };

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

/** Everything of PID 1 that would give away the guest's memory, descriptors or control. */
const REACH_PID_1 = `perl -e '
  my @opened = grep { open(my $f, "<", "/proc/1/$_") && read($f, my $x, 1) } qw(mem environ maps auxv stack syscall);
  push @opened, grep { opendir(my $d, "/proc/1/$_") } qw(fd map_files task/1/fd);
  push @opened, grep { readlink("/proc/1/$_") } qw(exe cwd root fd/3 ns/user);
  push @opened, grep { open(my $f, ">", "/proc/1/$_") } qw(mem oom_score_adj clear_refs);
  push @opened, "ptrace" if syscall(${CALLS.ptrace}, 16, 1, 0, 0) == 0;
  kill $_, 1 for 1 .. 31, 34 .. 64;
  my $forged = pack("iii x4 ii x104", 15, 0, -1, 0, 0);
  syscall(${CALLS.queue}, 1, 15, $forged);
  print "opened: @opened"'`;

describe.skipIf(!canSandbox)("a sandbox against its own PID 1", () => {
  let machine: Machine;
  let driver: SandboxDriver;
  beforeAll(async () => {
    machine = new Machine();
    driver = await machine.driver();
  });
  afterAll(async () => machine[Symbol.asyncDispose]());

  test("neither its user nor its root reads, traces or ends it", async () => {
    const { id } = await machine.start();
    const list = (script: string, user: string) => machine.run(id, script, user);
    expect((await list(REACH_PID_1, "user")).stdout).toBe("opened: ");
    // Root may count its descriptors and write its memory score: nothing that leads into it.
    const opened = (await list(REACH_PID_1, "root")).stdout;
    expect(opened).toMatch(/^opened: /);
    expect(opened).not.toMatch(
      /\b(mem|environ|maps|auxv|stack|syscall|exe|cwd|root|user|ptrace)\b|fd\/3/,
    );
    expect((await list("echo up", "user")).stdout).toBe("up\n");
    await driver.kill(id);
  });

  test("with every process used up, files say so, commands can be ended and the sandbox shut down", async () => {
    const { id } = await machine.start(machine.spec(newSandboxId(), { processCount: 12 }));
    const guest = await machine.guest(id);
    const fill = `$| = 1; while (defined(my $pid = fork)) { $pid or sleep 1000 } print "full"; sleep 1000`;
    const command = ["perl", "-e", fill];
    const full = await guest.exec({ command, env: {}, tag: "full" });
    for await (const { data } of full.output) if (Buffer.from(data).includes("full")) break;
    await expect(guest.stat("/etc/passwd")).rejects.toMatchObject({ code: "GUEST_BUSY" });
    await expect(guest.exec({ command: ["true"], env: {} })).rejects.toBeInstanceOf(BelljarError);
    expect(await guest.processes()).toHaveLength(1);
    await guest.signalProcess({ tag: "full" }, "SIGKILL");
    await full.exited;
    expect((await guest.stat("/etc/passwd")).type).toBe("file");
    const again = await guest.exec({ command, env: {} });
    for await (const { data } of again.output) if (Buffer.from(data).includes("full")) break;
    const ended = new Promise((resolve) =>
      driver.onExit((exit) => exit.id === id && resolve(exit)),
    );
    await guest.shutdown(100);
    expect(await ended).toMatchObject({ id, exitCode: 0 });
  });
});

/** What overlay would believe of a layer's files: where a directory really is, what hides what lies below. */
const FORGE_LAYER = `cd /home/user && mkdir -p forged plain && perl -e '
  my ($path, @set) = ("/home/user/forged");
  for my $kind (qw(redirect opaque metacopy)) {
    for my $name ("trusted.overlay.$kind", "user.overlay.$kind", "trusted.overlay.overlay.$kind") {
      my $value = $kind eq "redirect" ? "/etc" : "y";
      push @set, $name if syscall(${CALLS.setxattr}, $path, $name, $value, length $value, 0) == 0;
    }
  }
  my ($whiteout, $device) = ("/home/user/whiteout", "/home/user/device");
  push @set, "whiteout" if syscall(${CALLS.mknodat}, -100, $whiteout, 0x2000 | 0666, 0) == 0;
  push @set, "device" if syscall(${CALLS.mknodat}, -100, $device, 0x6000 | 0666, 0x700) == 0;
  print "set: @set"'`;

describe.skipIf(!canSandbox)("a layer that its sandbox has written", () => {
  test("cannot be made to lead elsewhere at the next start, and honest renames survive it", async () => {
    await using machine = new Machine();
    const driver = await machine.driver();
    const spec = await machine.start();
    const said = await machine.run(spec.id, FORGE_LAYER);
    expect(said.stdout).toMatch(/^set: /);
    expect(said.stdout).not.toMatch(/trusted|whiteout|device/);
    const moved = "mv /opt /opt-moved && touch /opt-moved/mine && ln -s /proc /opt";
    expect((await machine.run(spec.id, moved)).exitCode).toBe(0);
    await driver.kill(spec.id);
    await driver.start(spec);
    const again = await machine.run(
      spec.id,
      "ls -A /home/user/forged; ls /opt-moved; readlink /opt",
    );
    expect(again.stdout).toBe("mine\n/proc\n");
    await driver.kill(spec.id);
  });
});

describe.skipIf(!canSandbox)("a bind below directories that the sandbox owns", () => {
  const target = "/opt/belljar/bin/tool";
  test.for([
    ["a file where a directory was", "mv /opt /gone && touch /opt"],
    ["a link that leads nowhere", "mv /opt /gone && ln -s /nowhere /opt"],
    ["a link to itself", "mv /opt /gone && ln -s /opt /opt"],
    ["a directory that is not empty where a file was", `mv /opt /gone && mkdir -p ${target}/full`],
  ] as const)("is there again after %s", async ([, deed]) => {
    await using machine = new Machine();
    const driver = await machine.driver();
    const spec = machine.spec();
    const binds = [
      ...spec.template.binds,
      { source: hostPath("/usr/bin/true"), target, readOnly: true as const },
    ];
    const bound = { ...spec, template: { ...spec.template, binds } };
    await machine.start(bound);
    expect(await machine.run(bound.id, `${target} && ${deed}`)).toMatchObject({ exitCode: 0 });
    await driver.kill(bound.id);
    await driver.start(bound);
    expect(await machine.run(bound.id, target)).toMatchObject({ stderr: "", exitCode: 0 });
    await driver.kill(bound.id);
  });
});

describe.skipIf(!canSandbox)("a dial at a sandbox that is being made", () => {
  test("never reaches the host's own loopback", async () => {
    await using machine = new Machine();
    const driver = await machine.driver();
    let reached = 0;
    const server = createServer((socket) => {
      reached += 1;
      socket.destroy();
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    for (let i = 0; i < 20; i++) {
      const spec = machine.spec();
      await driver.ensureVolume(spec.id, { slot: spec.slot });
      const plan = planOf(spec, {
        isPrivileged: true,
        uid: 0,
        gid: 0,
        canIdmap: true,
        guest: hostPath(GUEST),
        cgroups: { mode: "none", roots: [] },
        openFilesMax: 1024,
        seccomp: compileSeccomp(process.arch === "x64" ? "x64" : "arm64"),
      });
      const socket = connect({ path: join(machine.runDir, "warden.sock") });
      socket.write(
        Buffer.concat([
          encodeRequest("create", 1, plan),
          encodeRequest("dial", 2, [
            ["id", spec.id],
            ["port", 2, port],
          ]),
        ]),
      );
      let bytes = 0;
      // Two answers: the create's and the dial's.
      while (bytes < 2 * HEADER_BYTES + 16)
        bytes += ((await once(socket, "data")) as [Buffer])[0].length;
      socket.destroy();
      await driver.kill(spec.id);
    }
    expect(reached).toBe(0);
    server.close();
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
    // The leak detector needs descriptors of its own at the end, and would change the exit status.
    env: { ...process.env, ASAN_OPTIONS: "detect_leaks=0" },
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
