import { chmod, lchown, mkdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import { hostPath, randomName } from "../kernel/index.ts";
import type { HostPath } from "../kernel/index.ts";
import type { RootEntry } from "./entries.ts";

/**
 * Writes a root file system at `target`, whole or not at all: it is made beside and renamed. One that is
 * there already, by name the same, is left as it is.
 */
export async function writeRoot(target: HostPath, entries: readonly RootEntry[]): Promise<void> {
  if (await isDirectory(target)) return;
  const temporary = hostPath(`${target}.making-${randomName(8)}`);
  try {
    await mkdir(dirname(target), { recursive: true, mode: 0o755 });
    await mkdir(temporary, { mode: 0o755 });
    await chmod(temporary, 0o755);
    for (const entry of entries) await writeEntry(temporary, entry);
    await rename(temporary, target);
  } catch (error) {
    // oxlint-disable-next-line house/no-recursive-rm -- a path that this very call has made, with a random name
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    // Another one may have been faster: it has made the same.
    if (await isDirectory(target)) return;
    const reason = error instanceof Error ? error.message : String(error);
    throw new BelljarError(
      "STORAGE_FAILED",
      `cannot make the template at ${target}: ${reason}`,
      { path: target },
      { cause: error },
    );
  }
}

async function writeEntry(root: HostPath, entry: RootEntry): Promise<void> {
  const path = join(root, entry.path);
  switch (entry.kind) {
    case "directory":
      await mkdir(path, { recursive: true });
      await chmod(path, entry.mode);
      break;
    case "file":
      await writeFile(path, entry.content, { flag: "wx" });
      await chmod(path, entry.mode);
      break;
    case "symlink":
      await symlink(entry.target, path);
      return;
  }
  if (entry.uid !== undefined) await giveTo(path, entry.uid);
}

/** Without privileges every file is the daemon's user's, who is the only one that a sandbox then has. */
async function giveTo(path: string, uid: number): Promise<void> {
  if (process.geteuid?.() !== 0) return;
  await lchown(path, uid, uid);
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() === true;
}
