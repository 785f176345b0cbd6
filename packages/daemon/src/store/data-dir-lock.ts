import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../kernel/index.ts";
import { makePrivate, sqliteCode } from "./sqlite.ts";
import { unusable } from "./store.ts";

/** The data directory is this process's alone until disposed of, or until the process ends in any way. */
export type DataDirLock = AsyncDisposable;

const LOCK_FILE = "lock.db";
const HOLDER_FILE = "lock.pid";
const SQLITE_BUSY = 5;

/**
 * Takes the data directory, making it if it is missing. The lock is SQLite's own exclusive lock on a
 * file that holds nothing: the kernel drops it with the process, so `kill -9` leaves nothing stale.
 * DATA_DIR_IN_USE names the other process; DATA_DIR_UNUSABLE for one that cannot be written.
 */
export async function lockDataDir(dataDir: HostPath): Promise<DataDirLock> {
  const holderPath = join(dataDir, HOLDER_FILE);
  let database: DatabaseSync | undefined;
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
    await makePrivate(join(dataDir, LOCK_FILE));
    database = new DatabaseSync(join(dataDir, LOCK_FILE), { timeout: 0 });
    database.exec("BEGIN EXCLUSIVE");
    await writeHolder(holderPath);
  } catch (error) {
    if (database?.isOpen === true) database.close();
    if (sqliteCode(error) === SQLITE_BUSY) throw await inUse(dataDir, holderPath);
    throw unusable(dataDir, error);
  }
  const held = database;
  return {
    async [Symbol.asyncDispose]() {
      if (!held.isOpen) return;
      await rm(holderPath, { force: true });
      held.close();
    },
  };
}

async function writeHolder(path: string): Promise<void> {
  const temporary = `${path}.${process.pid}`;
  await writeFile(temporary, `${process.pid}\n`, { mode: 0o600 });
  await rename(temporary, path);
}

/** The holder's pid is for people only: the lock does not depend on it. */
async function inUse(dataDir: HostPath, holderPath: string): Promise<BelljarError> {
  const text = await readFile(holderPath, "utf8").catch(() => "");
  const pid = /^[0-9]{1,10}$/.test(text.trim()) ? Number(text) : undefined;
  const who = pid === undefined ? "another daemon" : `the daemon with pid ${pid}`;
  return new BelljarError("DATA_DIR_IN_USE", `${dataDir} is in use by ${who}`, {
    dataDir,
    ...(pid === undefined ? {} : { pid }),
  });
}
