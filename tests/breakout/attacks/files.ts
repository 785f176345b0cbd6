import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import type { Arena } from "../arena.ts";
import { type Attack, verdict } from "../attack.ts";

const BOTH = ["user", "root"] as const;

/** Runs a line as both attackers; got through if either prints what `proof` matches. */
async function attempt(arena: Arena, line: string, proof: RegExp) {
  const said: string[] = [];
  for (const who of BOTH) {
    const { stdout, stderr } = await arena.inside(line, who);
    said.push(`${who}: ${stdout}${stderr}`);
    if (proof.test(stdout)) return { got: true, said: said.join(" ") };
  }
  return { got: false, said: said.join(" ") };
}

async function control(arena: Arena, line: string, proof: RegExp) {
  const { stdout, stderr } = await arena.outside(line);
  return { got: proof.test(stdout), said: stdout + stderr };
}

/** The same line inside and on the host. */
function line(
  name: string,
  wall: Attack["wall"],
  command: (arena: Arena) => string,
  proof: (arena: Arena) => RegExp,
): Attack {
  return {
    name,
    wall,
    run: async (arena) =>
      verdict(
        await attempt(arena, command(arena), proof(arena)),
        await control(arena, command(arena), proof(arena)),
      ),
  };
}

const anyCanary = (arena: Arena) => new RegExp(arena.canaries.map(({ text }) => text).join("|"));
const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;
const files = (arena: Arena, prefix: string) =>
  arena.canaries.map(({ file }) => quote(prefix + file)).join(" ");

const guestProgram = (arena: Arena) => readFileSync(`/proc/${arena.guestPid}/exe`);
const hashOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

export const fileAttacks: readonly Attack[] = [
  line(
    "read files of the host by their paths",
    "files",
    (arena) => `cat ${files(arena, "")} 2>&1`,
    anyCanary,
  ),
  line(
    "read files of the host through /proc/PID/root",
    "files",
    (arena) =>
      `for p in /proc/[0-9]*/root /proc/self/cwd/../../../..; do for f in ${files(arena, "")}; do cat $p$f; done; done 2>&1 | sort -u`,
    anyCanary,
  ),
  line(
    "climb above the root with ..",
    "files",
    (arena) => `cat ${files(arena, "/../../../../../..")} 2>&1`,
    anyCanary,
  ),
  line(
    "find a canary anywhere outside /usr",
    "files",
    () =>
      "grep -rIsl --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr --exclude-dir=dev --exclude-dir=lib --exclude-dir=tmp canary- /home /root /var /etc /run /opt /srv /mnt /media 2>/dev/null | head -5",
    () => /canary$/m,
  ),
  line(
    "read the host's password hashes",
    "files",
    () => "cat /etc/shadow /etc/shadow- 2>&1",
    () => /^root:[^:]*:[0-9]+/m,
  ),
  line(
    "read the host's host keys, logs and package state",
    "files",
    () => "ls /etc/ssh /var/log/dpkg.log /var/lib/dpkg/status /boot 2>/dev/null | grep -v '^$'",
    () => /dpkg|ssh_config|vmlinuz/,
  ),
  line(
    "find a control socket of the host",
    "files",
    (arena) =>
      `ls -d /var/run/docker.sock /run/docker.sock /run/systemd/private /run/dbus ${quote(arena.daemon.dataDir)} 2>/dev/null`,
    () => /\/(docker|systemd|dbus|tmp)/,
  ),
  line(
    "see a block device",
    "files",
    () => "ls /dev | grep -E '^(sd|vd|nvme|loop|mem|kmem|port|kvm|fuse|vda)'",
    () => /./,
  ),
  line(
    "write into the host's /usr",
    "files",
    (arena) => `f=/usr/belljar-${arena.attacker}; echo x > $f && echo written; rm -f $f`,
    () => /written/,
  ),
  line(
    "change a program of the host",
    "files",
    () => "f=/usr/bin/env; chmod --reference=$f $f 2>&1 && echo changed",
    () => /^changed$/m,
  ),
  line(
    "make a hard link to a program of the host",
    "files",
    (arena) =>
      `d=/usr/share/belljar-${arena.attacker}; ln /usr/bin/env $d && echo linked; rm -f $d; ln /usr/bin/env /home/user/env 2>/dev/null && echo linked`,
    () => /linked/,
  ),
  line(
    "read kernel memory through /proc",
    "files",
    () =>
      "head -c 16 /proc/kcore 2>/dev/null | od -c | head -1; grep -m1 -E '^[0-9a-f]*[1-9a-f][0-9a-f]* ' /proc/kallsyms 2>/dev/null",
    () => /E\s+L\s+F|[1-9a-f][0-9a-f]{6,} /,
  ),
  line(
    "change a setting of the kernel",
    "files",
    () =>
      "for f in kernel/core_pattern vm/overcommit_memory kernel/printk kernel/hostname fs/file-max kernel/modprobe; do p=/proc/sys/$f; v=$(cat $p 2>/dev/null) && { printf '%s' \"$v\" > $p; } 2>/dev/null && echo wrote $f; done",
    () => /wrote (kernel\/core_pattern|vm|kernel\/printk|fs|kernel\/modprobe)/,
  ),
  line(
    "press a magic key",
    "files",
    () =>
      "test -w /proc/sysrq-trigger && { printf '' > /proc/sysrq-trigger; } 2>/dev/null && echo pressed",
    () => /pressed/,
  ),
  line(
    "look at the host's hardware through /sys",
    "files",
    () => "ls /sys/kernel /sys/block /sys/fs/cgroup 2>/dev/null | grep -v '^$' | head -3",
    () => /./,
  ),
  line(
    "write to a cgroup",
    "files",
    () =>
      "for f in $(find / -xdev \\( -name release_agent -o -name cgroup.procs -o -name tasks -o -name memory.max \\) 2>/dev/null | head -3) /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/*/cgroup.procs; do test -w $f && echo writable $f; done",
    () => /writable/,
  ),
  {
    name: "overwrite the guest's program on the host",
    wall: "guest",
    async run(arena) {
      const before = hashOf(guestProgram(arena));
      const tries =
        "for f in /proc/1/exe /proc/1/map_files/* /proc/self/root/proc/1/exe; do { printf X 1<> $f; } 2>&1; cp /bin/sh $f 2>&1; cat $f > /tmp/guest-copy 2>/dev/null && test -s /tmp/guest-copy && echo copied; done; ln -f /proc/1/exe /tmp/guest-link 2>&1; rm -f /tmp/guest-copy";
      const inside = await attempt(arena, tries, /^copied$/m);
      const after = hashOf(guestProgram(arena));
      const host = await control(
        arena,
        "sleep 5 & { cat /proc/$!/exe > /dev/null; } && echo copied; kill $!",
        /^copied$/m,
      );
      return verdict({ got: inside.got || before !== after, said: inside.said }, host);
    },
  },
  {
    name: "find the path of the guest's program or socket",
    wall: "guest",
    async run(arena) {
      const link = readlinkSync(`/proc/${arena.guestPid}/exe`);
      const said = await attempt(
        arena,
        `readlink /proc/1/exe; ls -l /proc/1/fd 2>/dev/null; ss -xl 2>/dev/null | grep belljar; cat /proc/1/mountinfo /proc/self/mountinfo | grep -o ${quote(arena.daemon.dataDir)} | head -1`,
        /socket:|\/build\/guest|belljar-data/,
      );
      return verdict(said, { got: link !== "", said: link });
    },
  },
];
