import { run } from "../../e2e/support/child.ts";
import type { Arena, Attacker } from "../arena.ts";
import type { Attack, Verdict } from "../attack.ts";

/** Every door that `probe.c` tries, by the name it prints, with what is behind it. */
const DOORS: Readonly<Record<string, string>> = {
  mount_tmpfs: "mount a tmpfs",
  mount_proc: "mount another /proc",
  mount_bind: "bind-mount the root",
  remount_usr: "remount /usr writable",
  umount_proc: "unmount /proc",
  fsopen: "open a file system through the new mount calls",
  open_tree: "clone a mount tree",
  pivot_root: "change the root of the mount namespace",
  unshare_user: "unshare a user namespace",
  unshare_mount: "unshare a mount namespace",
  unshare_net: "unshare a network namespace",
  unshare_cgroup: "unshare a cgroup namespace",
  clone_user: "clone into a user namespace",
  clone3_user: "clone3 into a user namespace, where no filter sees the flags",
  setns: "enter a namespace",
  mknod_mem: "make a device node of the machine's memory",
  mknod_disk: "make a device node of the machine's disk",
  setcap_sys_admin: "raise CAP_SYS_ADMIN",
  new_privileges: "gain privileges by execve",
  drop_seccomp: "run without a system call filter",
  ptrace_init: "trace PID 1",
  read_init_memory: "read PID 1's memory",
  open_init_memory: "open PID 1's memory for writing",
  pidfd_getfd: "take a descriptor of PID 1",
  write_init_exe: "overwrite PID 1's program through /proc",
  raw_socket: "open a raw socket",
  packet_socket: "open a packet socket",
  netfilter_socket: "speak to netfilter",
  audit_socket: "speak to the audit subsystem",
  alg_socket: "open a crypto socket",
  vsock_socket: "open a socket to the hypervisor",
  route_change: "change a network link",
  bpf: "make a BPF map",
  add_key: "add a key to a key ring",
  keyctl: "look at a key ring",
  io_uring: "set up a ring that carries out calls past the filter",
  userfaultfd: "handle page faults",
  perf: "count performance events",
  kexec: "load another kernel",
  init_module: "load a kernel module",
  reboot: "restart the machine",
  swapon: "add swap",
  acct: "switch process accounting on",
  settime: "set the clock",
  syslog: "read the kernel's log",
  handle: "open a file by its handle",
  fanotify: "watch a whole file system",
  iopl: "raise the I/O privilege level",
  personality: "switch address space protections off",
  tiocsti: "type into a terminal",
  i386_calls: "make calls through the 32-bit door",
  x32_calls: "make x32 calls",
  chroot_escape: "climb out with chroot",
};

function outcomes(text: string): Map<string, string> {
  const lines = text.split("\n").filter((line) => line !== "");
  return new Map(
    lines.map((line) => [line.split(" ")[0] ?? "", line.split(" ").slice(1).join(" ")]),
  );
}

/** What the probe said, run once for each attacker and once on the host, in namespaces of its own. */
interface ProbeRuns {
  readonly inside: Record<Attacker, Map<string, string>>;
  readonly control: Map<string, string>;
}

const runs = new WeakMap<Arena, Promise<ProbeRuns>>();

async function runProbe(arena: Arena): Promise<ProbeRuns> {
  // One after the other: both leave the same names in /tmp.
  const asUser = await arena.inside("/home/user/probe; rm -rf /tmp/probe-*");
  const asRoot = await arena.inside("/home/user/probe; rm -rf /tmp/probe-*", "root");
  const free = ["unshare", "-m", "-p", "-f", "-n", "-u", "-i", "--mount-proc"];
  const control = await run([...free, arena.probe, "--control"], { timeoutMs: 60_000 });
  await run(["sh", "-c", "rm -rf /tmp/probe-mem /tmp/probe-disk /tmp/probe-root"]);
  const inside = { user: outcomes(asUser.stdout), root: outcomes(asRoot.stdout) };
  return { inside, control: outcomes(control.stdout) };
}

function judge(door: string, { inside, control }: ProbeRuns): Verdict {
  const said = [inside.user.get(door), inside.root.get(door)];
  return {
    // A door that was not tried proves nothing: it counts as fallen.
    held: said.every((line) => line !== undefined && line !== "open"),
    control: control.get(door) === "open" ? "works" : "absent",
    detail: `user: ${said[0]}; root: ${said[1]}; control: ${control.get(door)}`,
  };
}

export const kernelAttacks: readonly Attack[] = Object.entries(DOORS).map(([door, what]) => ({
  name: what,
  wall: "kernel",
  async run(arena) {
    const known = runs.get(arena) ?? runProbe(arena);
    runs.set(arena, known);
    return judge(door, await known);
  },
}));
