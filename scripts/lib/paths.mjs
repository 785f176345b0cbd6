/** Where things are in this repository, and which Node runs what. Plain JavaScript for Node 20. */
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root directory. */
export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");

/** Directories where Debian puts programs that an ordinary user's PATH leaves out. */
const SYSTEM_BIN_DIRS = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin"];

/** The package that carries Node 24 for this machine. */
export const NODE_PACKAGE = `node-${process.platform}-${process.arch}`;

/** Absolute path of the packaged Node 24, or undefined before `npm ci` or on another platform. */
export function packagedNode() {
  const path = join(ROOT, "node_modules", NODE_PACKAGE, "bin/node");
  return existsSync(path) ? path : undefined;
}

/** The Node that runs tests and the daemon: the packaged one, else the one running this. */
export function projectNode() {
  return packagedNode() ?? process.execPath;
}

/** PATH without this repository's own node_modules/.bin, which `npm ci` takes away while it runs. */
export function outsidePath() {
  const own = join(ROOT, "node_modules");
  const entries = (process.env.PATH ?? "").split(delimiter).filter((entry) => {
    return entry !== "" && !resolve(entry).startsWith(own);
  });
  const running = dirname(process.execPath);
  if (!running.startsWith(own)) entries.push(running);
  return [...entries, ...SYSTEM_BIN_DIRS].join(delimiter);
}

/** PATH with this repository's node_modules/.bin first, as `npm run` sets it. */
export function insidePath() {
  return [join(ROOT, "node_modules/.bin"), outsidePath()].join(delimiter);
}

/** First executable called one of `names`, searched in PATH and in the system's directories. */
export function findProgram(...names) {
  const directories = [...new Set(outsidePath().split(delimiter))];
  for (const name of names) {
    if (name.startsWith("/")) {
      if (isExecutable(name)) return name;
      continue;
    }
    const found = directories.map((entry) => join(entry, name)).find(isExecutable);
    if (found !== undefined) return found;
  }
  return undefined;
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false; // Not there, or not for us: either way this entry of PATH does not have it.
  }
}
