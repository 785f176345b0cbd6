/** `npm ci`, when what is installed is not what the lock file says. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { NODE_PACKAGE, ROOT, findProgram, outsidePath, packagedNode } from "./paths.mjs";
import { mustRun, SetupError } from "./run.mjs";

const INSTALLED_LOCK = "node_modules/.package-lock.json";

/**
 * Why node_modules must be made anew, or undefined. npm writes its own lock of what it installed as
 * its last act, so a killed install has none, and an install by hand counts.
 */
export function npmStaleness() {
  const wanted = readLock("package-lock.json");
  const installed = readLock(INSTALLED_LOCK);
  if (wanted === undefined) return undefined;
  if (installed === undefined) return "nothing is installed";
  if (wanted[`node_modules/${NODE_PACKAGE}`] !== undefined && packagedNode() === undefined) {
    return `${NODE_PACKAGE} is missing`;
  }
  for (const [path, entry] of Object.entries(wanted)) {
    if (!path.includes("node_modules/")) continue;
    const reason = entryStaleness(path, entry, installed[path]);
    if (reason !== undefined) return reason;
  }
  return undefined;
}

function entryStaleness(path, wanted, installed) {
  if (installed === undefined || !existsSync(join(ROOT, path))) {
    return wanted.optional || wanted.devOptional ? undefined : `${path} is missing`;
  }
  const isSame = wanted.version === installed.version && wanted.integrity === installed.integrity;
  return isSame ? undefined : `${path} is another version`;
}

function readLock(relativePath) {
  try {
    return JSON.parse(readFileSync(join(ROOT, relativePath), "utf8")).packages;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw new SetupError(`${relativePath} cannot be read: ${error.message}`);
  }
}

/** Runs `npm ci` with a Node from outside, for it deletes the packaged one while it works. */
export async function installNpmPackages(lockFd) {
  const npm = findProgram("npm");
  if (npm === undefined) throw new SetupError("npm is not on PATH; install npm 10 or newer");
  const env = { PATH: outsidePath(), npm_config_workspace: "", ...cacheWhenHomeIsReadOnly() };
  await mustRun("`npm ci`", [npm, "ci", "--include=dev", "--include=optional", "--no-progress"], {
    env,
    lockFd,
  });
}

function cacheWhenHomeIsReadOnly() {
  const cache = process.env.npm_config_cache ?? join(homedir(), ".npm");
  try {
    mkdirSync(cache, { recursive: true });
    accessSync(cache, constants.W_OK);
    return {};
  } catch {
    return { npm_config_cache: join(ROOT, "build/npm-cache") }; // npm cannot work without a cache.
  }
}
