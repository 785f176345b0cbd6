/** Puts the native driver together: looks at the machine, chooses the pool, starts or finds the warden. */
import { createHash } from "node:crypto";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { access, constants, mkdir, readFile, realpath, writeFile } from "node:fs/promises";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../../kernel/index.ts";
import { hostPath } from "../../kernel/index.ts";
import type { Logger } from "../../log/index.ts";
import type { SandboxDriver } from "../driver.ts";
import { readExit } from "./answers.ts";
import type { CgroupLayout } from "./cgroup.ts";
import type { FoundCgroups } from "./cgroup-machine.ts";
import { findCgroups, layoutOfRoots } from "./cgroup-machine.ts";
import { loadDial } from "./dial.ts";
import { kernelHasOverlayIdmap } from "./layers.ts";
import { NativeDriver } from "./native-driver.ts";
import { compileSeccomp } from "./seccomp.ts";
import { ARCHITECTURES } from "./seccomp-policy.ts";
import type { PoolChoice, PoolKind } from "./storage.ts";
import { choosePool } from "./storage.ts";
import type { WardenFacts } from "./warden.ts";
import { Warden } from "./warden.ts";

export interface NativeDriverOptions {
  /** Directory of volumes and of the pool's image */
  readonly dataDir: HostPath;
  /** Directory of sockets and the warden's state; short, for a socket's path has 107 bytes */
  readonly runDir: HostPath;
  readonly wardenBinary: HostPath;
  readonly guestBinary: HostPath;
  /** The addon that receives dialled sockets; without it the guest's pipe serves */
  readonly dialAddon: HostPath;
  /** Socket of a warden that something else starts; null starts one */
  readonly wardenSocket: HostPath | null;
  /** Name of the cgroup below which sandboxes live; a suffix keeps two daemons apart */
  readonly cgroupName: string;
  readonly pool: "auto" | PoolKind;
  readonly imageBytes: number | null;
  readonly logger: Logger;
}

const NO_CGROUPS: FoundCgroups = { layout: { mode: "none", roots: [] } };
const SOCKET_PATH_BYTES_MAX = 107;
const SOCKET_NAME_BYTES = "/01234567890123456789.sock".length;
const NAME_HASH_CHARS = 8;

/** A driver whose warden answers. WARDEN_UNREACHABLE, LAYER_UNSUPPORTED (a pool that cannot be), DATA_DIR_UNUSABLE, TOOL_MISSING. */
export async function createNativeDriver(asked: NativeDriverOptions): Promise<SandboxDriver> {
  // A warden that something else starts has its socket in its run directory, beside those of the guests.
  const runDirOfWarden = asked.wardenSocket === null ? asked.runDir : dirname(asked.wardenSocket);
  const options = { ...asked, runDir: hostPath(runDirOfWarden) };
  const architecture = ARCHITECTURES.find((name) => name === process.arch);
  if (architecture === undefined) {
    throw new BelljarError("LAYER_UNSUPPORTED", `no system call filter for ${process.arch}`);
  }
  await prepareDirectories(options);
  const isPrivileged = process.geteuid?.() === 0;
  const cgroups =
    options.wardenSocket === null ? await cgroupsFor(options, isPrivileged) : NO_CGROUPS;
  const pool = await choosePool({ ...options, asked: options.pool, isPrivileged });
  const wardenSocket = options.wardenSocket ?? hostPath(`${options.runDir}/warden.sock`);
  const holder: { driver?: NativeDriver } = {};
  const warden = wardenOf({ options, cgroups: cgroups.layout, pool, wardenSocket, holder });
  const facts = await warden.facts();
  const machine = {
    isPrivileged: facts.uid === 0,
    uid: facts.uid,
    gid: facts.gid,
    canIdmap: facts.uid === 0 && kernelHasOverlayIdmap(facts.kernel),
    guest: hostPath(await realpath(options.guestBinary)),
    cgroups: await layoutFor(options, cgroups.layout, facts),
    openFilesMax: facts.openFilesMax,
    seccomp: compileSeccomp(architecture),
  };
  const layers = {
    ...machine,
    kernel: facts.kernel,
    userNamespaceErrno: facts.userNamespaceErrno,
    ...(cgroups.reason === undefined ? {} : { cgroupReason: cgroups.reason }),
  };
  const dial = loadDial(options.dialAddon);
  const { runDir, logger } = options;
  const driver = new NativeDriver({
    warden,
    machine,
    layers,
    pool,
    dial,
    runDir,
    wardenSocket,
    logger,
  });
  holder.driver = driver;
  await driver.list();
  return driver;
}

async function prepareDirectories(options: NativeDriverOptions): Promise<void> {
  const { runDir, dataDir } = options;
  if (Buffer.byteLength(runDir) + SOCKET_NAME_BYTES > SOCKET_PATH_BYTES_MAX) {
    const bytesMax = SOCKET_PATH_BYTES_MAX - SOCKET_NAME_BYTES;
    const message = `${runDir} is too long for sockets: ${bytesMax} bytes at most`;
    throw new BelljarError("DATA_DIR_UNUSABLE", message, { runDir, bytesMax });
  }
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o711 });
    await mkdir(runDir, { recursive: true, mode: 0o711 });
    await access(dataDir, constants.W_OK);
  } catch (cause) {
    throw new BelljarError("DATA_DIR_UNUSABLE", `${dataDir} cannot be written`, {}, { cause });
  }
  const programs = options.wardenSocket === null ? [options.wardenBinary] : [];
  for (const path of [...programs, options.guestBinary]) {
    await access(path, constants.X_OK).catch((cause: unknown) => {
      const message = `${path} is not there; build it with \`npm run build\``;
      throw new BelljarError("TOOL_MISSING", message, { path }, { cause });
    });
  }
}

/** Two daemons with one cgroup name must not sweep away each other's sandboxes. */
async function cgroupsFor(options: NativeDriverOptions, isPrivileged: boolean) {
  const hash = createHash("sha256").update(options.runDir).digest("hex").slice(0, NAME_HASH_CHARS);
  const read = (path: string) => readFile(path, "utf8");
  const write = (path: string, text: string) => writeFile(path, text);
  return findCgroups(`${options.cgroupName}-${hash}`, {
    isPrivileged,
    pid: process.pid,
    files: { read, write, mkdir: (path) => mkdir(path, { recursive: true }) },
  });
}

/** An external warden's roots are its own: they are looked at rather than computed. */
async function layoutFor(
  options: NativeDriverOptions,
  computed: CgroupLayout,
  facts: WardenFacts,
): Promise<CgroupLayout> {
  const cpuCount = availableParallelism();
  if (options.wardenSocket === null) return { ...computed, cpuCount };
  return { ...(await layoutOfRoots(facts.cgroupRoots)), cpuCount };
}

function wardenOf(parts: {
  options: NativeDriverOptions;
  cgroups: CgroupLayout;
  pool: PoolChoice;
  wardenSocket: HostPath;
  holder: { driver?: NativeDriver };
}): Warden {
  const { options, cgroups, pool, wardenSocket, holder } = parts;
  const launch = {
    binary: options.wardenBinary,
    clientUid: process.geteuid?.() ?? 0,
    cgroupRoots: cgroups.roots.map(({ path }) => path),
    pool: pool.path,
    ...(pool.image === undefined ? {} : { poolImage: pool.image }),
    withQuota: pool.kind === "image",
  };
  return new Warden({
    socket: wardenSocket,
    runDir: options.runDir,
    logFile: hostPath(`${options.dataDir}/warden.log`),
    ...(options.wardenSocket === null ? { launch } : {}),
    logger: options.logger,
    onExit(records) {
      holder.driver?.takeExit(readExit(records));
    },
    onConnected() {
      holder.driver?.catchUp().catch((error: unknown) => {
        options.logger.error("driver.catch-up", { error });
      });
    },
  });
}
