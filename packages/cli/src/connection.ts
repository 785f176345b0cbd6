import { BelljarError } from "@belljar/protocol";
import type { GlobalOptions } from "./command.ts";
import { dataDirOf, readRunningDaemon, readStoredClient } from "./data-dir.ts";

export interface Connection {
  readonly url: string;
  readonly token: string;
}

/**
 * Where the daemon is and what opens it: what was given wins, then what the data directory says.
 * A stored token is only ever sent to the daemon it came from.
 */
export async function resolveConnection(globals: GlobalOptions): Promise<Connection> {
  const dataDir = dataDirOf(globals.dataDir);
  const stored =
    globals.url !== undefined && globals.token !== undefined
      ? undefined
      : await readStored(dataDir);
  const url = globals.url ?? stored?.runningUrl;
  if (url === undefined) {
    throw new BelljarError(
      "DAEMON_UNREACHABLE",
      `no daemon runs on the data directory ${dataDir}`,
      { dataDir },
    );
  }
  const isOwn =
    globals.url === undefined ||
    [stored?.runningUrl, stored?.client?.url].includes(globals.url.replace(/\/+$/, ""));
  const token = globals.token ?? (isOwn ? stored?.client?.token : undefined);
  if (token === undefined) {
    throw new BelljarError(
      "UNAUTHENTICATED",
      `no token is known for ${url}: give --token, or BELLJAR_TOKEN`,
      { url },
    );
  }
  return { url, token };
}

async function readStored(dataDir: string) {
  try {
    const [running, client] = await Promise.all([
      readRunningDaemon(dataDir),
      readStoredClient(dataDir),
    ]);
    return { runningUrl: running?.url, client };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new BelljarError(
      "DATA_DIR_UNUSABLE",
      `cannot read ${dataDir}: ${why}`,
      { dataDir },
      { cause: error },
    );
  }
}
