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

/** Pids of every process that this one sees. */
export function allPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number);
}

/** Names of the cgroups in which a data directory's sandboxes live, learnt while its warden runs. */
const cgroupNames = new Map<string, string>();

/** Learns from the warden's arguments below which cgroups the sandboxes of `dataDir` are. */
export function learnCgroups(dataDir: string): void {
  for (const pid of allPids()) {
    const argv = readText(`/proc/${pid}/cmdline`).split("\0");
    if (!argv.some((argument) => argument.startsWith(dataDir))) continue;
    const root = argv[argv.indexOf("--cgroup-root") + 1];
    if (argv.includes("--cgroup-root") && root !== undefined)
      cgroupNames.set(dataDir, path.basename(root));
  }
}

/**
 * Processes that belong to the daemon of `dataDir`: its path is in their arguments, or they are in a
 * cgroup of its sandboxes. (Mount tables prove nothing: whoever unshares one copies all that is there.)
 */
export function processesOf(dataDir: string): number[] {
  const name = cgroupNames.get(dataDir);
  return allPids().filter((pid) => {
    if (pid === process.pid) return false;
    if (readText(`/proc/${pid}/cmdline`).includes(dataDir)) return true;
    return name !== undefined && readText(`/proc/${pid}/cgroup`).includes(`/${name}/`);
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

/** Cgroups of the sandboxes; the one that they have in common may stay for the next start. */
function cgroupsOf(dataDir: string, sandboxIds: readonly string[]): string[] {
  const ofSandboxes = sandboxIds.length === 0 ? [] : cgroupsNaming(sandboxIds, CGROUP_ROOT, 0);
  const name = cgroupNames.get(dataDir);
  if (name === undefined) return ofSandboxes;
  const below = cgroupsNaming([name], CGROUP_ROOT, 0).flatMap((directory) =>
    readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => path.join(directory, entry.name)),
  );
  return [...new Set([...ofSandboxes, ...below])];
}

/** Own walk: the recursive one of `node:fs` follows links, and a template links to /run. */
function socketsBelow(directory: string): string[] {
  let entries;
  try {
    entries = readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
  return entries.flatMap((entry) => {
    const found = path.join(directory, entry.name);
    if (entry.isDirectory()) return socketsBelow(found);
    return entry.isSocket() ? [found] : [];
  });
}

/** Looks for everything that the daemon of `dataDir` or one of `sandboxIds` left on this host. */
export function findLeftovers(dataDir: string, sandboxIds: readonly string[]): Leftovers {
  const mounts = readText("/proc/self/mountinfo")
    .split("\n")
    .filter((line) => line.includes(dataDir) || sandboxIds.some((id) => line.includes(id)));
  return {
    processes: processesOf(dataDir).map(describe),
    mounts,
    cgroups: cgroupsOf(dataDir, sandboxIds),
    sockets: socketsBelow(dataDir),
  };
}

function link(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return "";
  }
}

/** The inode of each network namespace that some process of `dataDir` lives in. */
export function networkNamespacesOf(dataDir: string): string[] {
  const ours = link("/proc/self/ns/net");
  const found = processesOf(dataDir).map((pid) => link(`/proc/${pid}/ns/net`));
  return [...new Set(found)].filter((namespace) => namespace !== "" && namespace !== ours);
}
