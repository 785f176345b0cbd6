import { execFileSync } from "node:child_process";
import {
  existsSync,
  lstatSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hostPath, newSandboxId } from "../../kernel/index.ts";
import type { SandboxDriver, SandboxExit } from "../driver.ts";
import { Machine, canSandbox } from "../testing/machine.ts";
import { rangeOfSlot } from "./ids.ts";

const MIB = 1024 * 1024;

describe.skipIf(!canSandbox)("the native driver", () => {
  let machine: Machine;
  let driver: SandboxDriver;

  beforeAll(async () => {
    machine = new Machine();
    driver = await machine.driver();
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  function nextExit(id: string): Promise<SandboxExit> {
    return new Promise((resolve) => {
      const stop = driver.onExit((exit) => {
        if (exit.id !== id) return;
        stop();
        resolve(exit);
      });
    });
  }

  test("a sandbox sees its own root, its own ids and none of the host's files", async () => {
    const secret = join(machine.directory, "secret");
    writeFileSync(secret, "of the host", { mode: 0o644 });
    const { id, slot } = await machine.start();
    const said = await machine.run(
      id,
      `id -u; hostname; cat /proc/self/uid_map; ls /root /home /var /run; cat ${secret}; stat -c %u /usr/bin/env; ls -A /sys /boot /etc/shadow`,
    );
    const { base, count } = rangeOfSlot(slot);
    expect(said.stdout).toMatch(/^0\nbox\n/);
    expect(said.stdout.replaceAll(/ +/g, " ")).toContain(`0 ${base} ${count}`);
    expect(said.stdout).not.toContain("of the host");
    expect(said.stdout).toMatch(/^0$/m);
    expect(said.stderr).toMatch(/shadow.*No such file/);
    const status = readFileSync(`/proc/${machine.guestOf(id)}/status`, "utf8");
    expect(status).toMatch(new RegExp(`^Uid:\\t${base}\\t${base}`, "m"));
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    await driver.kill(id);
  });

  test("every mount is what the plan says, and every namespace is the sandbox's own", async () => {
    const { id } = await machine.start();
    const pid = machine.guestOf(id);
    const mounts = readFileSync(`/proc/${pid}/mounts`, "utf8");
    expect(mounts).toMatch(/^none \/ overlay rw,nosuid,nodev/m);
    expect(mounts).toMatch(/ \/usr \w+ ro,nosuid,nodev,.*idmapped/);
    for (const path of ["/tmp", "/run", "/dev/shm"]) {
      expect(mounts).toMatch(new RegExp(`^none ${path} tmpfs rw,nosuid,nodev`, "m"));
    }
    expect(mounts).toMatch(/^none \/dev tmpfs rw,nosuid,noexec/m);
    expect(mounts).toMatch(/^none \/proc proc rw,nosuid,nodev,noexec/m);
    const points = mounts.split("\n").map((line) => line.split(" ")[1]);
    expect(points.filter((point) => point === "/")).toHaveLength(1);
    expect(mounts).not.toContain(machine.directory);
    for (const name of ["mnt", "pid", "net", "ipc", "uts", "user", "cgroup"]) {
      const inside = readlinkSync(`/proc/${pid}/ns/${name}`);
      expect(inside, name).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
    }
    const open = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
    expect(open.filter((target) => /warden|run\/|\.sock|memfd/.test(target))).toEqual([]);
    expect(readFileSync(`/proc/${pid}/cgroup`, "utf8")).toContain(id);
    await driver.kill(id);
  });

  test("the host's programs cannot be changed from inside, and the sandbox's own files can", async () => {
    const { id } = await machine.start();
    const said = await machine.run(
      id,
      "touch /usr/x; echo x > /usr/bin/env; cat /dev/null > /proc/1/exe; echo 1 > /proc/sys/kernel/randomize_va_space; mount -t tmpfs x /tmp; mkdir /new && touch /new/file /etc/mine /home/user/f && echo done",
    );
    expect(said.stdout).toBe("done\n");
    expect(
      said.stderr.match(
        /Read-only file system|Permission denied|Text file busy|Operation not permitted|permission denied|must be superuser/g,
      )?.length,
    ).toBeGreaterThanOrEqual(4);
    await driver.kill(id);
    await driver.start({ ...machine.spec(id), slot: 3000 }).catch(() => undefined);
    await driver.kill(id);
  });

  test("a workspace survives kill and start", async () => {
    const spec = await machine.start();
    await machine.run(spec.id, "echo kept > /home/user/file; echo gone > /tmp/file");
    await driver.kill(spec.id);
    await driver.start(spec);
    const said = await machine.run(spec.id, "cat /home/user/file; ls /tmp");
    expect(said.stdout).toBe("kept\n");
    await driver.kill(spec.id);
  });

  test("mount points that a sandbox replaced with links or files lead nowhere and are made again", async () => {
    const spec = await machine.start();
    const outside = join(machine.directory, "outside");
    writeFileSync(outside, "whole");
    // The mount points are busy while mounted, so the links are put where the next start looks: the upper layer.
    await driver.kill(spec.id);
    const upper = join(machine.directory, "data/volumes", spec.id, "upper");
    execFileSync("sh", [
      "-c",
      `cd ${upper} && rm -rf tmp run proc && ln -s /etc tmp && ln -s ../../../../.. run && touch proc && rm -rf dev && ln -s ${machine.directory} dev`,
    ]);
    await driver.start(spec);
    const said = await machine.run(
      spec.id,
      "stat -c %F /tmp /run /proc /dev; cat /proc/self/comm; echo x > /dev/null && ls /dev | wc -l",
    );
    expect(said.stdout.split("\n").slice(0, 5)).toEqual([
      "directory",
      "directory",
      "directory",
      "directory",
      "cat",
    ]);
    expect(readFileSync(outside, "utf8")).toBe("whole");
    expect(existsSync(join(machine.directory, "null"))).toBe(false);
    await driver.kill(spec.id);
  });

  test("forty sandboxes made and ended leave nothing behind", async () => {
    const mounts = () =>
      readFileSync("/proc/mounts", "utf8")
        .split("\n")
        .filter((line) => line.includes(machine.directory));
    const before = { mounts: mounts(), spaces: countNamespaces() };
    for (let round = 0; round < 40; round += 1) {
      const { id } = await machine.start();
      await driver.kill(id);
      await driver.removeVolume(id);
    }
    expect(machine.traces()).toEqual([]);
    expect(mounts()).toEqual(before.mounts);
    await expect.poll(countNamespaces).toBeLessThanOrEqual(before.spaces);
    expect(await driver.list()).toEqual([]);
  });

  test("a step that fails names itself and leaves nothing; the same plan without the fault starts", async () => {
    const spec = machine.spec();
    await driver.ensureVolume(spec.id, { slot: spec.slot });
    const missing = hostPath(join(machine.directory, "no-such-layer"));
    const broken = { ...spec, template: { ...spec.template, layers: [missing] } };
    const error = await driver.start(broken).catch((reason: unknown) => reason);
    expect(BelljarError.is(error, "SANDBOX_START_FAILED")).toBe(true);
    expect((error as BelljarError).details).toMatchObject({ step: "layer", name: "ENOENT" });
    expect(machine.traces()).toEqual([]);
    await driver.start(spec);
    await driver.kill(spec.id);
  });

  test("a second sandbox of the same id is refused, and the first lives on", async () => {
    const spec = await machine.start();
    await expect(driver.start(spec)).rejects.toMatchObject({ code: "SANDBOX_STATE" });
    expect((await machine.run(spec.id, "echo here")).stdout).toBe("here\n");
    await driver.kill(spec.id);
  });

  test("kill -9 of a guest is told as an exit, with nothing left", async () => {
    const { id } = await machine.start();
    const exit = nextExit(id);
    process.kill(machine.guestOf(id), "SIGKILL");
    expect(await exit).toMatchObject({ id, exitCode: null, signal: 9, isOutOfMemory: false });
    expect(machine.traces()).toEqual([]);
  });

  test("a start that is aborted leaves nothing", async () => {
    const spec = machine.spec();
    await driver.ensureVolume(spec.id, { slot: spec.slot });
    const abort = new AbortController();
    const started = driver.start(spec, abort.signal);
    abort.abort();
    await expect(started).rejects.toMatchObject({ code: "CANCELLED" });
    expect(machine.traces()).toEqual([]);
  });

  test("frozen processes stand still and go on when thawed", async () => {
    const { id } = await machine.start();
    await machine.run(id, "(while :; do echo x >> /tmp/ticks; done) >/dev/null 2>&1 &");
    await driver.freeze(id);
    expect((await driver.list()).find((box) => box.id === id)?.state).toBe("frozen");
    const before = await driver.usage(id);
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect((await driver.usage(id)).cpuTimeMs - before.cpuTimeMs).toBeLessThanOrEqual(5);
    await driver.thaw(id);
    expect((await driver.list()).find((box) => box.id === id)?.state).toBe("running");
    await expect
      .poll(async () => (await driver.usage(id)).cpuTimeMs)
      .toBeGreaterThan(before.cpuTimeMs);
    await driver.freeze(id);
    await driver.kill(id);
    expect(machine.traces()).toEqual([]);
  });

  test("dialPort reaches a server inside on IPv4 and IPv6, and says so when nothing listens", async () => {
    const { id } = await machine.start();
    const serve = (host: string, port: number) =>
      `use IO::Socket::IP; my $s = IO::Socket::IP->new(Listen=>5, LocalHost=>"${host}", LocalPort=>${port}, ReuseAddr=>1) or die; while (my $c = $s->accept) { my $l = <$c>; print $c "echo $l"; close $c }`;
    await machine.run(
      id,
      `setsid perl -e '${serve("127.0.0.1", 80)}' >/dev/null 2>&1 & setsid perl -e '${serve("::1", 3000)}' >/dev/null 2>&1 &`,
    );
    for (const port of [80, 3000]) {
      await expect
        .poll(async () => (await driver.dialPort(id, port)).destroy().destroyed)
        .toBe(true);
      const socket = await driver.dialPort(id, port);
      socket.write("hello\n");
      let text = "";
      for await (const chunk of socket) text += String(chunk);
      expect(text).toBe("echo hello\n");
    }
    await expect(driver.dialPort(id, 81)).rejects.toMatchObject({ code: "PREVIEW_UNREACHABLE" });
    await driver.kill(id);
    await expect(driver.dialPort(id, 80)).rejects.toMatchObject({ code: "SANDBOX_STATE" });
  });

  test("the disk limit stops a writer at the limit", async () => {
    const spec = machine.spec();
    const state = await driver.ensureVolume(spec.id, { slot: spec.slot, diskBytes: 16 * MIB });
    expect(state.effective).toEqual([{ layer: "disk-bytes", asked: true, inForce: true }]);
    await driver.start(spec);
    const said = await machine.run(
      spec.id,
      "dd if=/dev/urandom of=/home/user/big bs=1M count=64 2>&1; stat -c %s /home/user/big",
    );
    expect(said.stdout).toMatch(/Disk quota exceeded|No space left/);
    expect(Number(said.stdout.trim().split("\n").at(-1))).toBeLessThanOrEqual(16 * MIB);
    const usage = await driver.volumeUsage(spec.id);
    expect(usage.limitBytes).toBe(16 * MIB);
    expect(usage.usedBytes).toBeGreaterThan(8 * MIB);
    await driver.kill(spec.id);
    await driver.removeVolume(spec.id);
    expect(await driver.listVolumes()).not.toContain(spec.id);
  });

  test("memory and process limits hold, and running out of memory is told", async () => {
    const { id } = await machine.start(
      machine.spec(newSandboxId(), { memoryBytes: 48 * MIB, processCount: 16 }),
    );
    await machine.run(id, `perl -e 'my $x = "x" x (200*1024*1024); print length $x'`);
    expect((await driver.usage(id)).oomKills).toBeGreaterThan(0);
    const forks = await machine.run(id, "for i in $(seq 40); do sleep 5 & done; wait");
    expect(forks.stderr).toMatch(/fork|Resource temporarily unavailable/i);
    const exit = nextExit(id);
    process.kill(machine.guestOf(id), "SIGKILL");
    expect((await exit).isOutOfMemory).toBe(true);
  });

  test("nothing of one sandbox can be signalled or seen from another", async () => {
    const one = await machine.start();
    const other = await machine.start();
    const said = await machine.run(
      one.id,
      `ls /proc | grep -c '^[0-9]*$'; kill -9 ${machine.guestOf(other.id)}; echo $?`,
    );
    expect(Number(said.stdout.split("\n")[0])).toBeLessThan(10);
    expect((await machine.run(other.id, "echo alive")).stdout).toBe("alive\n");
    await driver.kill(one.id);
    await driver.kill(other.id);
  });

  test("volumes belong to the sandbox's ids, and a removed one is gone whatever lies in it", async () => {
    const spec = await machine.start();
    await machine.run(
      spec.id,
      "mkdir -p /home/user/a/b/c; ln -s / /home/user/link; chmod 000 /home/user/a; mkfifo /home/user/f",
    );
    const upper = join(machine.directory, "data/volumes", spec.id, "upper");
    expect(statSync(upper).uid).toBe(rangeOfSlot(spec.slot).base);
    expect(lstatSync(join(upper, "home/user/link")).isSymbolicLink()).toBe(true);
    await expect(driver.removeVolume(spec.id)).rejects.toMatchObject({ code: "WARDEN_REFUSED" });
    await driver.kill(spec.id);
    await driver.removeVolume(spec.id);
    await driver.removeVolume(spec.id);
    expect(existsSync(upper)).toBe(false);
    expect(existsSync("/usr/bin/env")).toBe(true);
  });
});

function countNamespaces(): number {
  const found = new Set<string>();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const target = readlinkSync(`/proc/${pid}/ns/net`);
      if (readFileSync(`/proc/${pid}/cgroup`, "utf8").includes("belljar-test-")) found.add(target);
    } catch {
      // the process ended while we looked
    }
  }
  return found.size;
}
