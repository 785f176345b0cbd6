/** Looks at this machine's cgroup mounts, and delegates v2 controllers to our own directory. */
import { readdir, readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { hostPath } from "../../kernel/index.ts";
import type { CgroupLayout, CgroupRoot, Controller } from "./cgroup.ts";
import { layoutOf, v2MountPoint } from "./cgroup.ts";

/** The few file operations that are needed, so that a tree of plain files can stand for a machine. */
export interface CgroupFiles {
  read(path: string): Promise<string>;
  write(path: string, text: string): Promise<void>;
  mkdir(path: string): Promise<unknown>;
}

export interface CgroupMachine {
  readonly isPrivileged: boolean;
  readonly pid: number;
  readonly files: CgroupFiles;
}

export interface FoundCgroups {
  readonly layout: CgroupLayout;
  /** Why controllers are missing */
  readonly reason?: string;
}

const CONTROLLERS = ["memory", "cpu", "pids"] as const;
/** Name of the leaf that the daemon's own processes move to: a v2 cgroup with processes delegates nothing */
const LEAF = "daemon";

/** The layout with directories called `name`, controllers switched on where we may. */
export async function findCgroups(name: string, machine: CgroupMachine): Promise<FoundCgroups> {
  const { files } = machine;
  const mountInfo = await files.read("/proc/self/mountinfo");
  const selfCgroup = await files.read("/proc/self/cgroup");
  const facts = { mountInfo, selfCgroup };
  const point = v2MountPoint(mountInfo);
  if (point === undefined) return { layout: layoutOf({ ...facts, v2Controllers: [] }, name) };
  const own = /^0::(.*)$/m.exec(selfCgroup)?.[1] ?? "/";
  const available = await words(files, `${point}/cgroup.controllers`);
  if (available.length === 0) {
    // Side by side with v1, which has the controllers: v2 freezes and kills.
    if (machine.isPrivileged) return { layout: layoutOf({ ...facts, v2Controllers: [] }, name) };
    return { layout: { mode: "none", roots: [] }, reason: "no cgroup is delegated to this user" };
  }
  const parent = await delegatedParent({ point, own, machine });
  if (parent === undefined) {
    const reason = `no cgroup is delegated to this process (it runs in ${own})`;
    return { layout: { mode: "none", roots: [] }, reason };
  }
  return enable({ ...facts, point, parent }, name, files);
}

async function enable(
  facts: { mountInfo: string; selfCgroup: string; point: string; parent: string },
  name: string,
  files: CgroupFiles,
): Promise<FoundCgroups> {
  const { parent, point } = facts;
  const root = `${point}${parent === "/" ? "" : parent}/${name}`;
  const problems: string[] = [];
  const v2Controllers: string[] = [];
  await files.mkdir(root);
  for (const controller of CONTROLLERS) {
    try {
      await files.write(`${dirname(root)}/cgroup.subtree_control`, `+${controller}`);
      await files.write(`${root}/cgroup.subtree_control`, `+${controller}`);
      v2Controllers.push(controller);
    } catch (error) {
      problems.push(`${controller}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const layout = layoutOf({ ...facts, v2Controllers, v2Parent: parent }, name);
  return problems.length === 0 ? { layout } : { layout, reason: problems.join("; ") };
}

/** The directory below which we may make cgroups, as a path of the hierarchy. */
async function delegatedParent(where: {
  point: string;
  own: string;
  machine: CgroupMachine;
}): Promise<string | undefined> {
  const { point, own, machine } = where;
  const { files } = machine;
  if (own.endsWith(`/${LEAF}`)) return dirname(own);
  const isRealRoot = await files.read(`${point}/cgroup.type`).then(
    () => false,
    () => true,
  );
  if (machine.isPrivileged && isRealRoot) return "/";
  // A container or a delegated unit: whatever runs here moves to a leaf, and this directory is free.
  const base = `${point}${own === "/" ? "" : own}`;
  try {
    await files.mkdir(`${base}/${LEAF}`);
    for (const pid of await words(files, `${base}/cgroup.procs`)) {
      await files.write(`${base}/${LEAF}/cgroup.procs`, pid).catch(() => undefined); // it just ended
    }
    return own;
  } catch {
    // Not ours to write in: that is what "not delegated" looks like.
    return undefined;
  }
}

async function words(files: CgroupFiles, path: string): Promise<string[]> {
  const text = await files.read(path).catch(() => "");
  return text.split(/\s+/).filter((word) => word !== "");
}

/** A file that a v1 directory has when its hierarchy has the controller */
const V1_MARKS: readonly (readonly [file: string, controller: Controller])[] = [
  ["memory.limit_in_bytes", "memory"],
  ["cpu.cfs_quota_us", "cpu"],
  ["pids.max", "pids"],
  ["freezer.state", "freezer"],
];

/** The layout of directories that somebody else chose, by what lies in them. */
export async function layoutOfRoots(paths: readonly string[]): Promise<CgroupLayout> {
  const roots = await Promise.all(paths.map(classify));
  const hasV2 = roots.some(({ version }) => version === 2);
  const hasV1 = roots.some(({ version }) => version === 1);
  if (roots.length === 0) return { mode: "none", roots };
  return { mode: hasV2 && hasV1 ? "hybrid" : hasV2 ? "v2" : "v1", roots };
}

async function classify(path: string): Promise<CgroupRoot> {
  const names = new Set(await readdir(path).catch(() => []));
  if (names.has("cgroup.subtree_control")) {
    const text = await readFile(`${path}/cgroup.subtree_control`, "utf8").catch(() => "");
    const enabled = new Set(text.split(/\s+/));
    const controllers = CONTROLLERS.filter((controller) => enabled.has(controller));
    return { path: hostPath(path), version: 2, controllers: [...controllers, "freezer"] };
  }
  const controllers = V1_MARKS.filter(([file]) => names.has(file)).map(([, name]) => name);
  return { path: hostPath(path), version: 1, controllers };
}
