/** Who may import whom, as pure functions over (file, module) pairs; the table of ARCHITECTURE.md. */
import { builtinModules } from "node:module";
import { isTestCode, readJson, resolveImport } from "./repository.ts";

/** One import: the file that has it, and the module as it is written there. */
export interface Use {
  from: string;
  specifier: string;
}

/** Which workspace packages each may import. Nobody imports the daemon: what needs one starts it. */
export const PACKAGES: Record<string, readonly string[]> = {
  protocol: [],
  sdk: ["protocol"],
  cli: ["protocol", "sdk"],
  dashboard: ["protocol", "sdk"],
  daemon: ["protocol"],
};

/** The daemon's rooms from the ground up; a room imports what lies on a lower floor. */
const FLOORS: readonly (readonly string[])[] = [
  ["kernel"],
  ["config", "log"],
  ["store"],
  ["drivers", "guest"],
  ["sandbox"],
  ["agents", "audit", "auth", "gateway", "guard", "ops", "tasks", "templates", "vault"],
  ["http"],
  ["compose"],
  ["main"],
];

/** Packages that must run without Node. */
const PLATFORM_FREE = new Set(["protocol", "sdk"]);
const DAEMON = "packages/daemon/src/";

interface Manifest {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** The workspace package that a path lies in. */
export function packageOf(path: string): string | undefined {
  return /^packages\/([^/]+)\//u.exec(path)?.[1];
}

/** The daemon's room that a path lies in: its top folder; files beside `main.ts` help to compose. */
export function roomOf(path: string): string {
  const inside = path.slice(DAEMON.length);
  if (inside.includes("/")) return inside.slice(0, inside.indexOf("/"));
  return inside === "main.ts" ? "main" : "compose";
}

/** How high a room lies; -1 for one that the table does not have. */
export function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room));
}

/** Whether a specifier is a path. */
export function isRelative({ specifier }: Use): boolean {
  return specifier.startsWith(".");
}

/** A relative import that leaves its package or does not name a file. */
export function leavesPackage(use: Use): boolean {
  if (!isRelative(use)) return false;
  const isInside = packageOf(use.from) === packageOf(resolveImport(use.from, use.specifier));
  return !isInside || !/\.(?:ts|tsx|mjs|json|node)$/u.test(use.specifier);
}

/** A module from outside that the importing package does not declare. */
export function isUndeclared(use: Use): boolean {
  if (isRelative(use) || use.specifier.startsWith("node:") || isBuiltin(use)) return false;
  const parts = use.specifier.split("/");
  const name = parts.slice(0, use.specifier.startsWith("@") ? 2 : 1).join("/");
  return !declaredFor(use.from).has(name);
}

function declaredFor(path: string): Set<string> {
  const owner = packageOf(path);
  const root = readJson<Manifest>("package.json");
  const own = owner === undefined ? [] : [readJson<Manifest>(`packages/${owner}/package.json`)];
  const isOutside = owner === undefined || isTestCode(path);
  const names = [...own, ...(isOutside ? [root] : [])].flatMap((manifest) => {
    const { dependencies, devDependencies, optionalDependencies } = manifest;
    return Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
  });
  // Tests and benchmarks use the packages as their users do; the root has them as workspaces.
  return new Set([...names, ...(isOutside ? ["@belljar/protocol", "@belljar/sdk"] : [])]);
}

/** One of Node's own modules without its prefix. */
export function isBuiltin({ specifier }: Use): boolean {
  return !specifier.startsWith("node:") && builtinModules.includes(specifier);
}

/** A Node module in a package that must run without Node. */
export function needsNode({ from, specifier }: Use): boolean {
  const owner = packageOf(from);
  if (owner === undefined || !PLATFORM_FREE.has(owner) || isTestCode(from)) return false;
  return specifier.startsWith("node:");
}

/** An import of a workspace package against the table. */
export function crossesPackages({ from, specifier }: Use): boolean {
  const target = /^@belljar\/([^/]+)/u.exec(specifier)?.[1];
  if (target === undefined) return false;
  if (target === "daemon") return true;
  const owner = packageOf(from);
  if (owner === undefined || isTestCode(from)) return false;
  return PACKAGES[owner]?.includes(target) !== true;
}

/** The target of an import from one room of the daemon in another; undefined for every other import. */
function otherRoom(use: Use): string | undefined {
  if (!use.from.startsWith(DAEMON) || !isRelative(use)) return undefined;
  const target = resolveImport(use.from, use.specifier);
  if (!target.startsWith(DAEMON) || roomOf(use.from) === roomOf(target)) return undefined;
  return target;
}

/** An import of a room that does not lie lower. */
export function climbs(use: Use): boolean {
  const target = otherRoom(use);
  if (target === undefined || isTestCode(use.from)) return false;
  return floorOf(roomOf(target)) >= floorOf(roomOf(use.from));
}

/** An import past a room's index.ts; tests may also use its testing folder. */
export function breaksIn(use: Use): boolean {
  const inside = otherRoom(use)?.slice(DAEMON.length);
  if (inside === undefined || !inside.includes("/")) return false;
  const isIndex = /^[^/]+\/index\.ts$/u.test(inside);
  return !isIndex && !(isTestCode(use.from) && inside.includes("/testing/"));
}

/** An import of what is for tests, by what is not one; benchmarks start the same daemon as the tests. */
export function usesTestCode(use: Use): boolean {
  if (!isRelative(use) || isTestCode(use.from) || use.from.startsWith("bench/")) return false;
  return isTestCode(resolveImport(use.from, use.specifier));
}
