/**
 * A sandbox's specification as a plan: every mount, id, limit and filter that the warden applies, in
 * its order. Pure: what the machine can do comes in as `PlanMachine`, nothing is looked up here.
 */
import type { HostPath } from "../../kernel/index.ts";
import { KIB } from "../../kernel/index.ts";
import type { SandboxSpec } from "../driver.ts";
import type { CgroupLayout } from "./cgroup.ts";
import { cgroupRecords } from "./cgroup.ts";
import type { IdRange } from "./ids.ts";
import { rangeOfSlot } from "./ids.ts";
import type { PlanRecord } from "./wire.ts";

/** What of this machine a plan depends on. */
export interface PlanMachine {
  /** Whether the warden is root: real device nodes, a range of ids, id-mapped mounts */
  readonly isPrivileged: boolean;
  /** Ids of the warden, which are the sandbox's only ones when it is not root */
  readonly uid: number;
  readonly gid: number;
  readonly canIdmap: boolean;
  readonly guest: HostPath;
  readonly cgroups: CgroupLayout;
  /** Hard limit of open files of the warden; without CAP_SYS_RESOURCE nobody gets more */
  readonly openFilesMax: number;
  /** The compiled system call filter */
  readonly seccomp: Uint8Array;
}

/** Bits of the plan's flags, as `native/warden/warden.h` has them */
const BIND = { idmap: 1, readOnly: 2, recursive: 4, noExec: 8 } as const;
const OVERLAY = { userXattr: 1, redirect: 2 } as const;
/** Mount attributes of `mount_setattr(2)` */
const ATTRIBUTE = { noSuid: 2, noDev: 4, noExec: 8 } as const;
/** Files of all scratch places together */
const INODES_MAX = 262_144;
const NO_GID = 0xffff_ffff;
const TERMINALS_MAX = 256;
const TTY_GID = 5;

/** Device nodes: name, major, minor */
const NODES = [
  ["null", 1, 3],
  ["zero", 1, 5],
  ["full", 1, 7],
  ["random", 1, 8],
  ["urandom", 1, 9],
  ["tty", 5, 0],
] as const;

const DEV_LINKS = [
  ["/proc/self/fd", "/dev/fd"],
  ["/proc/self/fd/0", "/dev/stdin"],
  ["/proc/self/fd/1", "/dev/stdout"],
  ["/proc/self/fd/2", "/dev/stderr"],
  ["pts/ptmx", "/dev/ptmx"],
] as const;

/** Parts of /proc that speak of the host's kernel */
const MASKED = [
  "/proc/kcore",
  "/proc/keys",
  "/proc/key-users",
  "/proc/kmsg",
  "/proc/sched_debug",
  "/proc/sysrq-trigger",
  "/proc/sysvipc",
  "/proc/timer_list",
  "/proc/acpi",
  "/proc/scsi",
  "/proc/bus",
  "/proc/fs",
  "/proc/irq",
] as const;

/** What root inside keeps: enough for a package manager, nothing that reaches the kernel's own state */
const CAPABILITIES = {
  CHOWN: 0,
  DAC_OVERRIDE: 1,
  FOWNER: 3,
  FSETID: 4,
  KILL: 5,
  SETGID: 6,
  SETUID: 7,
  SETPCAP: 8,
  NET_BIND_SERVICE: 10,
  SYS_CHROOT: 18,
  SETFCAP: 31,
} as const;

/** RLIMIT numbers of the kernel, the same on x86-64 and arm64 */
const RLIMIT = { core: 4, openFiles: 7, lockedMemory: 8, messageQueue: 12 } as const;
const LOCKED_MEMORY_BYTES = 64 * KIB;
const MESSAGE_QUEUE_BYTES = 800 * KIB;

/** The whole plan of one sandbox. */
export function planOf(spec: SandboxSpec, machine: PlanMachine): PlanRecord[] {
  const range = rangeFor(spec, machine);
  return [
    ["id", spec.id],
    ["guest", machine.guest],
    ["argument", "--listen-fd"],
    ["argument", "3"],
    ["userNamespace", range.base, machine.isPrivileged ? range.base : machine.gid, range.count],
    ...cgroupRecords(machine.cgroups, spec.limits),
    ...rootRecords(spec, machine),
    ...deviceRecords(spec, machine, range),
    ["proc", "/proc"],
    ...MASKED.map((path): PlanRecord => ["mask", path]),
    ...spec.template.binds.map(({ source, target }): PlanRecord => [
      "bind",
      bindFlags(machine),
      source,
      target,
    ]),
    ["hostname", spec.hostname],
    ["loopback"],
    ["sysctl", "net/ipv4/ip_unprivileged_port_start", "0"],
    ...resourceRecords(spec, machine),
    ["pivot"],
    ["enter"],
    ["capabilities", capabilityMask()],
    ["noNewPrivileges"],
    ["seccomp", 0, machine.seccomp],
  ];
}

/** The range that a sandbox's files belong to. */
export function rangeFor(
  spec: { readonly slot: number },
  machine: { readonly isPrivileged: boolean; readonly uid: number },
): IdRange {
  return machine.isPrivileged ? rangeOfSlot(spec.slot) : { base: machine.uid, count: 1 };
}

function bindFlags(machine: PlanMachine): number {
  // What other mounts lie below a source is locked for an unprivileged mount namespace: all or nothing.
  if (!machine.isPrivileged) return BIND.readOnly | BIND.recursive;
  return BIND.readOnly | (machine.canIdmap ? BIND.idmap : 0);
}

function rootRecords(spec: SandboxSpec, machine: PlanMachine): PlanRecord[] {
  const flags = bindFlags(machine);
  const overlay = machine.isPrivileged ? OVERLAY.redirect : OVERLAY.userXattr;
  return [
    ...spec.template.layers.map((path): PlanRecord => ["layer", flags, path]),
    ["overlay", overlay],
  ];
}

function owner(machine: PlanMachine, range: IdRange): [uid: number, gid: number] {
  // An unprivileged warden's user namespace exists while it mounts, so ids are those inside.
  return machine.isPrivileged ? [range.base, range.base] : [0, 0];
}

function deviceRecords(spec: SandboxSpec, machine: PlanMachine, range: IdRange): PlanRecord[] {
  const [uid, gid] = owner(machine, range);
  const { noSuid, noExec, noDev } = ATTRIBUTE;
  const terminalGid = machine.isPrivileged ? range.base + TTY_GID : NO_GID;
  return [
    ["tmpfs", spec.limits.tmpBytes + spec.limits.shmBytes, INODES_MAX],
    ["scratch", noSuid | noExec, 0o755, uid, gid, "dev", "/dev"],
    ...NODES.map(([name, major, minor]): PlanRecord => [
      "node",
      major,
      minor,
      0o666,
      uid,
      gid,
      machine.isPrivileged ? "" : `/dev/${name}`,
      `/dev/${name}`,
    ]),
    ...DEV_LINKS.map(([value, path]): PlanRecord => ["symlink", value, path]),
    ["devpts", terminalGid, TERMINALS_MAX, "/dev/pts"],
    ["scratch", noSuid | noDev, 0o1777, uid, gid, "shm", "/dev/shm"],
    ["scratch", noSuid | noDev, 0o1777, uid, gid, "tmp", "/tmp"],
    ["scratch", noSuid | noDev, 0o755, uid, gid, "run", "/run"],
  ];
}

function resourceRecords(spec: SandboxSpec, machine: PlanMachine): PlanRecord[] {
  const files = Math.min(spec.limits.openFilesMax, machine.openFilesMax);
  return [
    ["resourceLimit", RLIMIT.core, 0, 0],
    ["resourceLimit", RLIMIT.openFiles, files, files],
    ["resourceLimit", RLIMIT.lockedMemory, LOCKED_MEMORY_BYTES, LOCKED_MEMORY_BYTES],
    ["resourceLimit", RLIMIT.messageQueue, MESSAGE_QUEUE_BYTES, MESSAGE_QUEUE_BYTES],
  ];
}

function capabilityMask(): number {
  return Object.values(CAPABILITIES).reduce((mask: number, bit) => mask + 2 ** bit, 0);
}
