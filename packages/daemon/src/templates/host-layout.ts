import { access, constants, lstat, readlink } from "node:fs/promises";
import type { HostPath } from "../kernel/index.ts";
import { hostPath } from "../kernel/index.ts";
import type { RootEntry } from "./entries.ts";

/** Top-level folders of programs and libraries; links into `/usr` on merged systems, folders on others. */
const SYSTEM_FOLDERS = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] as const;
const NODE_PLACES = ["/usr/local/bin/node", "/usr/bin/node"] as const;
/** Where the daemon's own Node is shown on a machine that has none; last in PATH */
export const OWN_PROGRAMS = "/opt/belljar/bin";

export interface HostLayout {
  /** The top of the root, as the host has it */
  readonly entries: readonly RootEntry[];
  readonly binds: readonly { source: HostPath; target: string; readOnly: true }[];
  /** A login shell that exists inside */
  readonly shell: string;
}

/** How this machine lays its programs out, and which of its folders are shown for that. */
export async function readHostLayout(options: { nodePath: HostPath }): Promise<HostLayout> {
  const entries: RootEntry[] = [{ kind: "directory", path: "usr", mode: 0o755 }];
  const binds = [{ source: hostPath("/usr"), target: "/usr", readOnly: true as const }];
  for (const name of SYSTEM_FOLDERS) {
    const stat = await lstat(`/${name}`).catch(() => undefined);
    if (stat?.isSymbolicLink() === true) {
      entries.push({ kind: "symlink", path: name, target: await readlink(`/${name}`) });
    } else if (stat?.isDirectory() === true) {
      entries.push({ kind: "directory", path: name, mode: 0o755 });
      binds.push({ source: hostPath(`/${name}`), target: `/${name}`, readOnly: true });
    }
  }
  if ((await firstExecutable(NODE_PLACES)) === undefined) {
    entries.push(
      { kind: "directory", path: "opt/belljar", mode: 0o755 },
      { kind: "directory", path: "opt/belljar/bin", mode: 0o755 },
      { kind: "file", path: "opt/belljar/bin/node", mode: 0o755, content: Buffer.alloc(0) },
    );
    binds.push({ source: options.nodePath, target: `${OWN_PROGRAMS}/node`, readOnly: true });
  }
  return { entries, binds, shell: (await firstExecutable(["/bin/bash"])) ?? "/bin/sh" };
}

async function firstExecutable(paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return path;
  }
  return undefined;
}
