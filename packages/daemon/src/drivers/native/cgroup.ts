/**
 * Where sandboxes' cgroups live and what is written into them. Pure v2 is what production has;
 * v1, and the two side by side, are found and used as well.
 */
import type { HostPath } from "../../kernel/index.ts";
import { hostPath } from "../../kernel/index.ts";
import type { ResourceUsage, SandboxLimits } from "../driver.ts";
import type { PlanRecord } from "./wire.ts";

export type Controller = "memory" | "cpu" | "pids" | "freezer";

/** One directory below which every sandbox gets one of its own. */
export interface CgroupRoot {
  readonly path: HostPath;
  readonly version: 1 | 2;
  /** Controllers that this hierarchy gives */
  readonly controllers: readonly Controller[];
}

export interface CgroupLayout {
  readonly mode: "v2" | "hybrid" | "v1" | "none";
  readonly roots: readonly CgroupRoot[];
  /** CPUs of the machine: as many or more are no limit, and need none (a quota costs time at every create) */
  readonly cpuCount?: number;
}

interface CgroupMount {
  readonly point: string;
  /** Path of the hierarchy that the mount point shows */
  readonly shown: string;
  readonly version: 1 | 2;
  readonly options: readonly string[];
}

const WANTED: readonly Controller[] = ["memory", "cpu", "pids", "freezer"];
/** Kernels without swap lack these, and need them as little */
const MAY_LACK: ReadonlySet<string> = new Set(["memory.swap.max", "memory.memsw.limit_in_bytes"]);
/** The kernel's own default, so v1 need not be told */
const CPU_PERIOD_US = 100_000;
const CPU_QUOTA_US_MIN = 1000;

/** Facts of `/proc/self/mountinfo` and `/proc/self/cgroup`, and the controllers of the v2 root that is used. */
export interface CgroupFacts {
  readonly mountInfo: string;
  readonly selfCgroup: string;
  /** Controllers that sandboxes' own v2 cgroups would have; empty when there is no v2 or nothing is delegated */
  readonly v2Controllers: readonly string[];
  /** Directory of the v2 hierarchy, as a path below its mount, that holds `name`; default: our own cgroup */
  readonly v2Parent?: string;
}

/** The layout with directories called `name`. */
export function layoutOf(facts: CgroupFacts, name: string): CgroupLayout {
  const mounts = parseMounts(facts.mountInfo);
  const own = parseOwn(facts.selfCgroup);
  const v1 = v1Roots(mounts, own, name);
  const v2 = v2Root(mounts, facts.v2Parent ?? own.get("") ?? "/", name);
  const roots: CgroupRoot[] = [...v1];
  if (v2 !== undefined) {
    const controllers = WANTED.filter((wanted) => facts.v2Controllers.includes(wanted));
    roots.push({ path: v2, version: 2, controllers: [...controllers, "freezer"] });
  }
  const hasV1 = roots.some(({ controllers, version }) => version === 1 && controllers.length > 0);
  if (v2 === undefined) return { mode: hasV1 ? "v1" : "none", roots };
  return { mode: hasV1 ? "hybrid" : "v2", roots: hasV1 ? withoutV1Freezer(roots) : roots };
}

/** Where v2 freezes, the v1 freezer is one directory more for nothing. */
function withoutV1Freezer(roots: readonly CgroupRoot[]): CgroupRoot[] {
  return roots.filter(
    ({ controllers, version }) => version === 2 || controllers.some((name) => name !== "freezer"),
  );
}

function parseMounts(mountInfo: string): CgroupMount[] {
  const mounts: CgroupMount[] = [];
  for (const line of mountInfo.split("\n")) {
    const [left = "", right = ""] = line.split(" - ");
    const [, , , shown = "", point = ""] = left.split(" ");
    const [type = "", , options = ""] = right.split(" ");
    if (type !== "cgroup" && type !== "cgroup2") continue;
    const version = type === "cgroup2" ? 2 : 1;
    mounts.push({ point: unescapePath(point), shown, version, options: options.split(",") });
  }
  return mounts;
}

/** Where the v2 hierarchy is mounted. */
export function v2MountPoint(mountInfo: string): string | undefined {
  return parseMounts(mountInfo).find(({ version }) => version === 2)?.point;
}

/** mountinfo writes blanks and backslashes as octal. */
function unescapePath(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}

/** Controller → our own cgroup; the empty name is v2's. */
function parseOwn(selfCgroup: string): Map<string, string> {
  const own = new Map<string, string>();
  for (const line of selfCgroup.split("\n")) {
    const [, names, ...path] = line.split(":");
    if (names === undefined) continue;
    for (const name of names.split(",")) own.set(name, path.join(":"));
  }
  return own;
}

function join(mount: CgroupMount, own: string, name: string): HostPath {
  const below = own.startsWith(mount.shown) ? own.slice(mount.shown.length) : own;
  const parts = `${mount.point}/${below}/${name}`.split("/").filter((part) => part !== "");
  return hostPath(`/${parts.join("/")}`);
}

function v1Roots(
  mounts: readonly CgroupMount[],
  own: Map<string, string>,
  name: string,
): CgroupRoot[] {
  const roots = new Map<string, CgroupRoot>();
  for (const controller of WANTED) {
    const mount = mounts.find(
      ({ version, options }) => version === 1 && options.includes(controller),
    );
    const ownPath = own.get(controller);
    if (mount === undefined || ownPath === undefined) continue;
    const known = roots.get(mount.point)?.controllers ?? [];
    const path = join(mount, ownPath, name);
    roots.set(mount.point, { path, version: 1, controllers: [...known, controller] });
  }
  return [...roots.values()];
}

function v2Root(
  mounts: readonly CgroupMount[],
  parent: string,
  name: string,
): HostPath | undefined {
  const mount = mounts.find(({ version }) => version === 2);
  return mount && join(mount, parent, name);
}

/** Directories and limits of one sandbox. */
export function cgroupRecords(layout: CgroupLayout, limits: SandboxLimits): PlanRecord[] {
  return layout.roots.flatMap((root, index): PlanRecord[] => [
    ["cgroup", index, root.version],
    ...filesOf(root, limits, layout.cpuCount).map(([name, value]): PlanRecord => [
      "cgroupFile",
      index,
      MAY_LACK.has(name) ? 1 : 0,
      name,
      value,
    ]),
  ]);
}

function filesOf(
  root: CgroupRoot,
  limits: SandboxLimits,
  cpuCount = Number.POSITIVE_INFINITY,
): [name: string, value: string][] {
  const isCpuLimited = limits.cpuCount < cpuCount;
  const memory = String(limits.memoryBytes);
  const quota = String(Math.max(CPU_QUOTA_US_MIN, Math.round(limits.cpuCount * CPU_PERIOD_US)));
  const processes = String(limits.processCount);
  const v1: Record<Controller, [string, string][]> = {
    memory: [
      ["memory.limit_in_bytes", memory],
      ["memory.memsw.limit_in_bytes", memory],
    ],
    cpu: isCpuLimited ? [["cpu.cfs_quota_us", quota]] : [],
    pids: [["pids.max", processes]],
    freezer: [],
  };
  const v2: Record<Controller, [string, string][]> = {
    memory: [
      ["memory.max", memory],
      ["memory.swap.max", "0"],
    ],
    cpu: isCpuLimited ? [["cpu.max", `${quota} ${CPU_PERIOD_US}`]] : [],
    pids: [["pids.max", processes]],
    freezer: [],
  };
  return root.controllers.flatMap((controller) => (root.version === 1 ? v1 : v2)[controller]);
}

/** Whether some hierarchy of the layout has the controller. */
export function hasController(layout: CgroupLayout, controller: Controller): boolean {
  return layout.roots.some(({ controllers }) => controllers.includes(controller));
}

/** Usage from the cgroup files that the warden read, v1's and v2's alike. */
export function usageOf(files: ReadonlyMap<string, string>): ResourceUsage {
  const number = (text: string | undefined) => Number.parseInt(text ?? "0", 10) || 0;
  const field = (file: string, key: string) =>
    number(new RegExp(`^${key} (\\d+)$`, "m").exec(files.get(file) ?? "")?.[1]);
  const cpuUs = field("cpu.stat", "usage_usec");
  return {
    memoryBytes: number(files.get("memory.current") ?? files.get("memory.usage_in_bytes")),
    cpuTimeMs: Math.round(cpuUs > 0 ? cpuUs / 1000 : number(files.get("cpuacct.usage")) / 1e6),
    processCount: number(files.get("pids.current")),
    oomKills: field("memory.events", "oom_kill") + field("memory.oom_control", "oom_kill"),
  };
}
