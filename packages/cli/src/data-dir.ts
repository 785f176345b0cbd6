import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";

const FILE_BYTES_MAX = 64 * 1024;
const PRIVATE_MODE = 0o600;

/** What the daemon writes of itself while it runs. */
export interface RunningDaemon {
  readonly pid: number;
  readonly url: string;
  readonly version: string;
}

/** What the first start leaves for the commands that follow: where the daemon was, and a token for it. */
export interface StoredClient {
  readonly url: string;
  readonly token: string;
}

/** The data directory in use, absolute; the same default as the daemon's. */
export function dataDirOf(given: string | undefined): string {
  if (given !== undefined) return resolve(given);
  if (process.getuid?.() === 0) return "/var/lib/belljar";
  return join(process.env["XDG_DATA_HOME"] || join(homedir(), ".local/share"), "belljar");
}

export function clientFile(dataDir: string): string {
  return join(dataDir, "client.json");
}

/** The log of a daemon that `belljar up` has started. */
export function logFile(dataDir: string): string {
  return join(dataDir, "daemon.log");
}

export async function readRunningDaemon(dataDir: string): Promise<RunningDaemon | undefined> {
  const value = await readObject(join(dataDir, "daemon.json"));
  if (typeof value?.["pid"] !== "number" || typeof value["url"] !== "string") return undefined;
  return {
    pid: value["pid"],
    url: value["url"],
    version: typeof value["version"] === "string" ? value["version"] : "",
  };
}

export async function readStoredClient(dataDir: string): Promise<StoredClient | undefined> {
  const value = await readObject(clientFile(dataDir));
  if (typeof value?.["url"] !== "string" || typeof value["token"] !== "string") return undefined;
  return { url: value["url"], token: value["token"] };
}

/** Written whole or not at all: the token in it is printed by the daemon once and nowhere else. */
export async function storeClient(dataDir: string, client: StoredClient): Promise<void> {
  const path = clientFile(dataDir);
  const temporary = `${path}.${process.pid}`;
  try {
    await writeFile(temporary, `${JSON.stringify(client)}\n`, { mode: PRIVATE_MODE, flag: "wx" });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function readObject(path: string): Promise<Record<string, unknown> | undefined> {
  try {
    const text = await readFile(path, "utf8");
    const value: unknown = JSON.parse(text.slice(0, FILE_BYTES_MAX));
    // An object of JSON has text keys; what they hold is checked by the callers.
    return typeof value === "object" && value !== null
      ? (value as Record<string, unknown>)
      : undefined;
  } catch (error) {
    // Absent, or half-written by something that is no daemon of ours: either way there is nothing to read.
    if (error instanceof SyntaxError || isAbsence(error)) return undefined;
    throw error;
  }
}

function isAbsence(error: unknown): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    (error.code === "ENOENT" || error.code === "ENOTDIR")
  );
}
