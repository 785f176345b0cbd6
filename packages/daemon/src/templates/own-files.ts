import type { RootEntry } from "./entries.ts";

/** User id of `user` inside */
export const USER_UID = 1000;
export const USER_HOME = "/home/user";

/** The folders that every root has, besides those of programs and libraries. */
const FOLDERS: readonly (readonly [path: string, mode: number])[] = [
  ["dev", 0o755],
  ["etc", 0o755],
  ["etc/ca-certificates", 0o755],
  ["etc/pki", 0o755],
  ["etc/pki/ca-trust", 0o755],
  ["etc/pki/tls", 0o755],
  ["etc/skel", 0o755],
  ["etc/ssl", 0o755],
  ["home", 0o755],
  ["media", 0o755],
  ["mnt", 0o755],
  ["opt", 0o755],
  ["proc", 0o555],
  ["root", 0o700],
  ["run", 0o755],
  ["run/lock", 0o1777],
  ["srv", 0o755],
  ["sys", 0o555],
  ["tmp", 0o1777],
  ["var", 0o755],
  ["var/cache", 0o755],
  ["var/lib", 0o755],
  ["var/log", 0o755],
  ["var/spool", 0o755],
  ["var/tmp", 0o1777],
];

const PROFILE = `# Read by login shells.
[ -r "$HOME/.bashrc" ] && [ -n "$BASH_VERSION" ] && . "$HOME/.bashrc"
`;

const BASHRC = `# Read by interactive bash.
case $- in *i*) ;; *) return ;; esac
PS1='\\u@\\h:\\w\\$ '
`;

const SYSTEM_PROFILE = `# Read by every login shell.
umask 022
`;

/** Files and folders that are ours whatever the host is: two people, nobody else's names. */
export function ownEntries(shell: string): RootEntry[] {
  const directories = FOLDERS.map(([path, mode]) => ({ kind: "directory" as const, path, mode }));
  return [
    ...directories,
    file("etc/passwd", passwd(shell)),
    file("etc/group", "root:x:0:\ntty:x:5:\nusers:x:100:\nuser:x:1000:\nnogroup:x:65534:\n"),
    file("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
    file("etc/hostname", "sandbox\n"),
    file("etc/host.conf", "multi on\n"),
    file(
      "etc/nsswitch.conf",
      "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    file("etc/resolv.conf", ""),
    file("etc/profile", SYSTEM_PROFILE),
    file("etc/shells", shell === "/bin/sh" ? "/bin/sh\n" : `/bin/sh\n${shell}\n`),
    file("etc/machine-id", ""),
    { kind: "symlink", path: "etc/mtab", target: "/proc/self/mounts" },
    { kind: "symlink", path: "var/run", target: "/run" },
    { kind: "symlink", path: "var/lock", target: "/run/lock" },
    { kind: "directory", path: "home/user", mode: 0o755, uid: USER_UID },
    { ...file("home/user/.profile", PROFILE), uid: USER_UID },
    { ...file("home/user/.bashrc", BASHRC), uid: USER_UID },
  ];
}

function passwd(shell: string): string {
  return [
    `root:x:0:0:root:/root:${shell}`,
    `user:x:${USER_UID}:${USER_UID}::${USER_HOME}:${shell}`,
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    "",
  ].join("\n");
}

function file(path: string, text: string): Extract<RootEntry, { kind: "file" }> {
  return { kind: "file", path, mode: 0o644, content: Buffer.from(text) };
}
