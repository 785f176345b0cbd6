import { existsSync, lstatSync, readlinkSync } from "node:fs";
import { findProgram } from "../../tests/e2e/support/machine.ts";

/**
 * bubblewrap with the walls that our `standard` level has namespaces for: its own mount, PID, IPC,
 * UTS, network, user and cgroup namespaces over a read-only /usr. No seccomp filter, no cgroup
 * limits, no guest, no API: it does less, and is the floor of what the kernel allows.
 */
export function bwrapCommand(argv: readonly string[]): string[] | undefined {
  const program = findProgram("bwrap");
  if (program === undefined) return undefined;
  const roots = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].flatMap((name) => {
    const directory = `/${name}`;
    if (!existsSync(directory)) return [];
    return lstatSync(directory).isSymbolicLink()
      ? ["--symlink", readlinkSync(directory), directory]
      : ["--ro-bind", directory, directory];
  });
  return [
    program,
    "--unshare-all",
    "--ro-bind",
    "/usr",
    "/usr",
    ...roots,
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--tmpfs",
    "/tmp",
    "--die-with-parent",
    ...argv,
  ];
}
