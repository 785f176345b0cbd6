import { rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";

const FILE = "daemon.json";
const PRIVATE_MODE = 0o600;

/** What others may know of a running daemon, in `daemon.json` of its data directory. */
export interface Announcement {
  readonly pid: number;
  readonly url: string;
  readonly version: string;
}

/** Writes the file whole or not at all; disposing removes it. STORAGE_FAILED. */
export async function announce(
  dataDir: string,
  announcement: Announcement,
): Promise<AsyncDisposable> {
  const path = join(dataDir, FILE);
  const temporary = `${path}.${announcement.pid}`;
  try {
    await writeFile(temporary, `${JSON.stringify(announcement)}\n`, { mode: PRIVATE_MODE });
    await rename(temporary, path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new BelljarError("STORAGE_FAILED", `cannot write ${path}: ${why}`, { path }, { cause });
  }
  return { [Symbol.asyncDispose]: () => rm(path, { force: true }) };
}
