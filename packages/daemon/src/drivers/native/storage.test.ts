import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { hostPath } from "../../kernel/index.ts";
import { Machine, canSandbox } from "../testing/machine.ts";
import { choosePool } from "./storage.ts";

const MIB = 1024 * 1024;

describe.skipIf(!canSandbox)("choosePool()", () => {
  test("without root it is directories with a reason, and what was asked for and cannot be is refused", async () => {
    const dataDir = hostPath(mkdtempSync(join(tmpdir(), "belljar-pool-")));
    const options = { dataDir, imageBytes: null, isPrivileged: false };
    expect(await choosePool({ ...options, asked: "auto" })).toMatchObject({
      kind: "directory",
      reason: expect.stringContaining("root") as string,
    });
    await expect(choosePool({ ...options, asked: "image" })).rejects.toMatchObject({
      code: "LAYER_UNSUPPORTED",
    });
    await expect(choosePool({ ...options, asked: "btrfs" })).rejects.toMatchObject({
      code: "LAYER_UNSUPPORTED",
    });
    await rm(dataDir, { recursive: true });
  });

  test("an image is made once, sparse, for root alone", async () => {
    const dataDir = hostPath(mkdtempSync(join(tmpdir(), "belljar-pool-")));
    const options = { dataDir, imageBytes: 512 * MIB, isPrivileged: true, asked: "image" } as const;
    const first = await choosePool(options);
    const image = statSync(join(dataDir, "volumes.img"));
    expect(first).toEqual({
      kind: "image",
      path: join(dataDir, "volumes"),
      image: join(dataDir, "volumes.img"),
    });
    expect(image.size).toBe(512 * MIB);
    expect(image.blocks * 512).toBeLessThan(64 * MIB);
    expect(image.mode & 0o777).toBe(0o600);
    await choosePool(options);
    expect(statSync(join(dataDir, "volumes.img")).ino).toBe(image.ino);
    await rm(dataDir, { recursive: true });
  });
});

describe.skipIf(!canSandbox)("pools", () => {
  test("an image pool is mounted while the warden serves or sandboxes live, found again, and let go at the end", async () => {
    const machine = new Machine({ pool: "image", imageBytes: 512 * MIB });
    const driver = await machine.driver();
    const isMounted = () => readFileSync("/proc/mounts", "utf8").includes(machine.directory);
    expect((await driver.capabilities()).pool).toBe("image");
    expect(isMounted()).toBe(true);
    const { id } = await machine.start();
    await machine.run(id, "echo kept > /home/user/file");
    process.kill(machine.wardenPid(), "SIGKILL");
    expect(await driver.listVolumes()).toEqual([id]);
    expect((await machine.run(id, "cat /home/user/file")).stdout).toBe("kept\n");
    await machine[Symbol.asyncDispose]();
    expect(isMounted()).toBe(false);
    expect(execFileSync("losetup", ["-l"], { encoding: "utf8" })).not.toContain(machine.directory);
  });

  test("a directory pool has no disk limit and says so, measures what is used, and removes the worst of trees", async () => {
    const machine = new Machine({ pool: "directory" });
    await using _ = machine;
    const driver = await machine.driver();
    const spec = machine.spec();
    const { effective } = await driver.ensureVolume(spec.id, {
      slot: spec.slot,
      diskBytes: 64 * MIB,
      inodes: 10,
    });
    expect(effective.map(({ layer, inForce }) => [layer, inForce])).toEqual([
      ["disk-bytes", false],
      ["disk-inodes", false],
    ]);
    await driver.start(spec);
    await machine.run(spec.id, "dd if=/dev/urandom of=/home/user/big bs=1M count=4 2>/dev/null");
    expect((await driver.volumeUsage(spec.id)).usedBytes).toBeGreaterThanOrEqual(4 * MIB);
    const outside = join(machine.directory, "outside");
    mkdirSync(outside);
    writeFileSync(join(outside, "file"), "whole");
    const upper = join(machine.directory, "data/volumes", spec.id, "upper/home/user");
    execFileSync("perl", [
      "-e",
      `chdir "${upper}"; for (1..3000) { mkdir "deep-directory-name", 0 or mkdir "d"; chmod 0700, "deep-directory-name"; chdir "deep-directory-name" or die }`,
    ]);
    execFileSync("sh", [
      "-c",
      `cd ${upper} && ln -s ${outside} link && ln -s / root && mkdir closed .belljar-0 && touch closed/x .belljar-1 && chmod 000 closed`,
    ]);
    await driver.kill(spec.id);
    await driver.removeVolume(spec.id);
    expect(await driver.listVolumes()).toEqual([]);
    expect(existsSync(join(machine.directory, "data/volumes", spec.id))).toBe(false);
    expect(readFileSync(join(outside, "file"), "utf8")).toBe("whole");
  });

  test("a data directory on btrfs is its own pool", async () => {
    const directory = mkdtempSync(join(tmpdir(), "belljar-btrfs-"));
    execFileSync("sh", [
      "-c",
      `truncate -s 300M ${directory}/img && mkfs.btrfs -q ${directory}/img && mkdir ${directory}/mnt && mount -o loop ${directory}/img ${directory}/mnt`,
    ]);
    try {
      const machine = new Machine({ dataDir: hostPath(join(directory, "mnt")) });
      await using _ = machine;
      const driver = await machine.driver();
      expect((await driver.capabilities()).pool).toBe("btrfs");
      const spec = machine.spec();
      const unlimited = await driver.ensureVolume(spec.id, {
        slot: spec.slot,
        diskBytes: 16 * MIB,
      });
      expect(unlimited.effective[0]).toMatchObject({ layer: "disk-bytes", inForce: false });
      await driver.start(spec);
      expect((await machine.run(spec.id, "touch /x && echo ok")).stdout).toBe("ok\n");
      await driver.kill(spec.id);
      expect((await driver.volumeUsage(spec.id)).usedBytes).toBeGreaterThanOrEqual(0);
    } finally {
      execFileSync("umount", [join(directory, "mnt")]);
      await rm(directory, { recursive: true });
    }
  });
});
