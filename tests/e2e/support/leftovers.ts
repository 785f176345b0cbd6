import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import path from "node:path";

/** What a daemon left on the host. Every list is empty when it cleaned up. */
export interface Leftovers {
  readonly processes: string[];
  readonly mounts: string[];
  readonly cgroups: string[];
  readonly sockets: string[];
}

const CGROUP_ROOT = "/sys/fs/cgroup";
const CGROUP_DEPTH_MAX = 6;

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

function link(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return "";
  }
}

/** Pids of every process that this one sees. */
export function allPids(): number[] {
  return readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name)).map(Number);
}

/**
 * Processes that belong to the daemon of `dataDir`: its path is in their arguments, or in the mount
 * table of a mount namespace other than ours (a sandbox's overlay names its upper directory there).
 */
export function processesOf(dataDir: string): number[] {
  const ours = link("/proc/self/ns/mnt");
  return allPids().filter((pid) => {
    if (pid === process.pid) return false;
    if (readText(`/proc/${pid}/cmdline`).includes(dataDir)) return true;
    const theirs = link(`/proc/${pid}/ns/mnt`);
    if (theirs === ours || theirs === "") return false;
    return readText(`/proc/${pid}/mountinfo`).includes(dataDir);
  });
}

function describe(pid: number): string {
  const line = readText(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim();
  return `${pid} ${line === "" ? readText(`/proc/${pid}/comm`).trim() : line}`;
}

function cgroupsNaming(needles: readonly string[], directory: string, depth: number): string[] {
  if (depth > CGROUP_DEPTH_MAX || !existsSync(directory)) return [];
  const found: string[] = [];
  let entries;
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch {
    return found;
  }
  for (const entry of entries) {
    if (!entry.isDirectory()) continue;
    const child = path.join(directory, entry.name);
    if (needles.some((needle) => entry.name.includes(needle))) found.push(child);
    else found.push(...cgroupsNaming(needles, child, depth + 1));
  }
  return found;
}

function socketsBelow(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isSocket())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

/** Looks for everything that the daemon of `dataDir` or one of `sandboxIds` left on this host. */
export function findLeftovers(dataDir: string, sandboxIds: readonly string[]): Leftovers {
  const mounts = readText("/proc/self/mountinfo")
    .split("\n")
    .filter((line) => line.includes(dataDir) || sandboxIds.some((id) => line.includes(id)));
  return {
    processes: processesOf(dataDir).map(describe),
    mounts,
    cgroups: sandboxIds.length === 0 ? [] : cgroupsNaming(sandboxIds, CGROUP_ROOT, 0),
    sockets: socketsBelow(dataDir),
  };
}

/** The inode of each network namespace that some process of `dataDir` lives in. */
export function networkNamespacesOf(dataDir: string): string[] {
  const ours = link("/proc/self/ns/net");
  const found = processesOf(dataDir).map((pid) => link(`/proc/${pid}/ns/net`));
  return [...new Set(found)].filter((namespace) => namespace !== "" && namespace !== ours);
}
