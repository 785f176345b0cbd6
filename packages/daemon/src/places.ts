import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Config } from "./config/index.ts";
import { hostPath } from "./kernel/index.ts";
import type { HostPath } from "./kernel/index.ts";

/** Where everything of the host lies. */
export interface Places {
  readonly dataDir: HostPath;
  /** Sockets and the warden's state */
  readonly runDir: HostPath;
  readonly wardenBinary: HostPath;
  readonly guestBinary: HostPath;
  readonly dialAddon: HostPath;
  /** Socket of a warden that something else starts */
  readonly wardenSocket: HostPath | null;
}

/** A socket's path has 107 bytes; what must fit after the directory is a sandbox's id and a suffix. */
const RUN_DIR_BYTES_MAX = 107 - "/01234567890123456789.sock".length;

export function placesOf(config: Config, isRoot: boolean): Places {
  const native = fileURLToPath(new URL("../../../native", import.meta.url));
  return {
    dataDir: hostPath(config.dataDir),
    runDir: hostPath(runDirOf(config.dataDir, isRoot)),
    wardenBinary: hostPath(config.warden.binary ?? join(native, "warden/build/warden")),
    guestBinary: hostPath(config.warden.guestBinary ?? join(native, "guest/build/guest")),
    dialAddon: hostPath(join(native, "warden/build/dial.node")),
    wardenSocket: config.warden.socket === null ? null : hostPath(config.warden.socket),
  };
}

function runDirOf(dataDir: string, isRoot: boolean): string {
  const beside = join(dataDir, "run");
  if (Buffer.byteLength(beside) <= RUN_DIR_BYTES_MAX || !isRoot) return beside;
  // Only root may make a name below /run; anyone else is told that the data directory's path is too long.
  return `/run/belljar-${createHash("sha256").update(dataDir).digest("hex").slice(0, 16)}`;
}
