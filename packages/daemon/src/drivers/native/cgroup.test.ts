import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { cgroupRecords, layoutOf, usageOf } from "./cgroup.ts";
import { findCgroups } from "./cgroup-machine.ts";

const LIMITS = {
  memoryBytes: 1 << 30,
  cpuCount: 1.5,
  processCount: 100,
  openFilesMax: 64,
  tmpBytes: 1,
  shmBytes: 1,
};
const PURE = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
const HYBRID = [
  "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
  "32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
  "33 24 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids",
  "34 24 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer",
  "35 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
].join("\n");
const OWN = "5:memory:/box\n4:cpu,cpuacct:/\n3:pids:/box\n2:freezer:/\n0::/\n";

describe("layoutOf()", () => {
  test("on pure v2 there is one root with every controller that is delegated", () => {
    const layout = layoutOf(
      {
        mountInfo: PURE,
        selfCgroup: "0::/system.slice/belljar.service\n",
        v2Controllers: ["cpu", "io", "memory", "pids"],
      },
      "jar",
    );
    expect(layout).toEqual({
      mode: "v2",
      roots: [
        {
          path: "/sys/fs/cgroup/system.slice/belljar.service/jar",
          version: 2,
          controllers: ["memory", "cpu", "pids", "freezer"],
        },
      ],
    });
    expect(cgroupRecords(layout, LIMITS)).toEqual([
      ["cgroup", 0, 2],
      ["cgroupFile", 0, 0, "memory.max", "1073741824"],
      ["cgroupFile", 0, 1, "memory.swap.max", "0"],
      ["cgroupFile", 0, 0, "cpu.max", "150000 100000"],
      ["cgroupFile", 0, 0, "pids.max", "100"],
    ]);
  });

  test("side by side, v1 limits and v2 freezes", () => {
    const layout = layoutOf({ mountInfo: HYBRID, selfCgroup: OWN, v2Controllers: [] }, "jar");
    expect(layout.mode).toBe("hybrid");
    expect(layout.roots.map(({ path }) => path)).toEqual([
      "/sys/fs/cgroup/memory/box/jar",
      "/sys/fs/cgroup/cpu,cpuacct/jar",
      "/sys/fs/cgroup/pids/box/jar",
      "/sys/fs/cgroup/unified/jar",
    ]);
    expect(cgroupRecords(layout, LIMITS)).toContainEqual([
      "cgroupFile",
      1,
      0,
      "cpu.cfs_quota_us",
      "150000",
    ]);
  });

  test("v1 alone has a freezer of its own, and no hierarchy at all is told", () => {
    const v1 = HYBRID.split("\n").slice(0, 4).join("\n");
    expect(
      layoutOf({ mountInfo: v1, selfCgroup: OWN, v2Controllers: [] }, "jar").roots.at(-1),
    ).toEqual({
      path: "/sys/fs/cgroup/freezer/jar",
      version: 1,
      controllers: ["freezer"],
    });
    expect(layoutOf({ mountInfo: "", selfCgroup: "", v2Controllers: [] }, "jar")).toEqual({
      mode: "none",
      roots: [],
    });
  });

  test("a hierarchy that is shown from below its root is joined below what is shown", () => {
    const shown =
      "30 24 0:26 /docker/abc /sys/fs/cgroup/memory\\040x ro - cgroup cgroup rw,memory\n";
    const layout = layoutOf(
      { mountInfo: shown, selfCgroup: "5:memory:/docker/abc/own\n", v2Controllers: [] },
      "jar",
    );
    expect(layout.roots[0]?.path).toBe("/sys/fs/cgroup/memory x/own/jar");
  });
});

describe("findCgroups()", () => {
  /** A machine of plain files; `/proc` and the mount point are moved into a directory. */
  async function machineWith(selfCgroup: string, isRealRoot: boolean) {
    const root = await mkdtemp(join(tmpdir(), "belljar-cgroup-"));
    const own = join(root, "sys/fs/cgroup", selfCgroup.slice(3).trim());
    await mkdir(own, { recursive: true });
    await mkdir(join(root, "proc/self"), { recursive: true });
    await writeFile(join(root, "proc/self/mountinfo"), PURE);
    await writeFile(join(root, "proc/self/cgroup"), selfCgroup);
    await writeFile(join(root, "sys/fs/cgroup/cgroup.controllers"), "cpuset cpu io memory pids\n");
    if (!isRealRoot) await writeFile(join(root, "sys/fs/cgroup/cgroup.type"), "domain\n");
    await writeFile(join(own, "cgroup.procs"), "11\n12\n");
    const written: [string, string][] = [];
    const files = {
      read: (path: string) => readFile(join(root, path), "utf8"),
      write: (path: string, text: string) => {
        written.push([path, text]);
        return Promise.resolve();
      },
      mkdir: (path: string) => mkdir(join(root, path), { recursive: true }),
    };
    return { root, written, files };
  }

  test("as root of a whole machine, sandboxes get a directory at the top with controllers switched on", async () => {
    const { root, written, files } = await machineWith("0::/user.slice/session-3.scope\n", true);
    const { layout, reason } = await findCgroups("jar", { isPrivileged: true, pid: 1, files });
    expect(layout.roots[0]).toEqual({
      path: "/sys/fs/cgroup/jar",
      version: 2,
      controllers: ["memory", "cpu", "pids", "freezer"],
    });
    expect(reason).toBeUndefined();
    expect(written).toContainEqual(["/sys/fs/cgroup/cgroup.subtree_control", "+memory"]);
    expect(written).toContainEqual(["/sys/fs/cgroup/jar/cgroup.subtree_control", "+pids"]);
    await rm(root, { recursive: true });
  });

  test("in a delegated unit its processes move to a leaf, and sandboxes stand beside it", async () => {
    const { root, written, files } = await machineWith("0::/system.slice/belljar.service\n", false);
    const { layout } = await findCgroups("jar", { isPrivileged: false, pid: 11, files });
    expect(layout.roots[0]?.path).toBe("/sys/fs/cgroup/system.slice/belljar.service/jar");
    expect(written).toContainEqual([
      "/sys/fs/cgroup/system.slice/belljar.service/daemon/cgroup.procs",
      "12",
    ]);
    await rm(root, { recursive: true });
  });

  test("a process that is in the leaf already moves nothing", async () => {
    const { root, written, files } = await machineWith(
      "0::/system.slice/belljar.service/daemon\n",
      false,
    );
    const { layout } = await findCgroups("jar", { isPrivileged: true, pid: 11, files });
    expect(layout.roots[0]?.path).toBe("/sys/fs/cgroup/system.slice/belljar.service/jar");
    expect(written.filter(([path]) => path.endsWith("cgroup.procs"))).toEqual([]);
    await rm(root, { recursive: true });
  });

  test("where nothing may be written there is no cgroup, with the reason", async () => {
    const { root, files } = await machineWith("0::/user.slice/session-3.scope\n", false);
    const refuse = () => Promise.reject(new Error("EACCES"));
    const found = await findCgroups("jar", {
      isPrivileged: false,
      pid: 1,
      files: { ...files, mkdir: refuse },
    });
    expect(found.layout).toEqual({ mode: "none", roots: [] });
    expect(found.reason).toContain("/user.slice/session-3.scope");
    await rm(root, { recursive: true });
  });
});

describe("usageOf()", () => {
  test("reads v2's files and v1's", () => {
    const v2 = new Map([
      ["memory.current", "4096\n"],
      ["memory.events", "low 0\noom 2\noom_kill 1\n"],
      ["cpu.stat", "usage_usec 1500\nuser_usec 1000\n"],
      ["pids.current", "3\n"],
    ]);
    expect(usageOf(v2)).toEqual({ memoryBytes: 4096, cpuTimeMs: 2, processCount: 3, oomKills: 1 });
    const v1 = new Map([
      ["memory.usage_in_bytes", "8192\n"],
      ["memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"],
      ["cpuacct.usage", "7000000\n"],
    ]);
    expect(usageOf(v1)).toEqual({ memoryBytes: 8192, cpuTimeMs: 7, processCount: 0, oomKills: 4 });
    expect(usageOf(new Map([["memory.current", "junk"]])).memoryBytes).toBe(0);
  });
});
