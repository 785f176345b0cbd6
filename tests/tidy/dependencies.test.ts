import { describe, expect, test } from "vitest";
import { filesBelow, readJson } from "./repository.ts";

interface Manifest {
  name?: string;
  version?: string;
  license?: string;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

interface LockEntry extends Manifest {
  link?: boolean;
  optional?: boolean;
  dev?: boolean;
  integrity?: string;
}

/** Licences that Belljar may be shipped with. */
const LICENCES = new Set([
  "0BSD",
  "Apache-2.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "BlueOak-1.0.0",
  "CC0-1.0",
  "ISC",
  "MIT",
  "Python-2.0",
  "Unlicense",
]);

/** Licences of programs that only build or test it. */
const TOOL_LICENCES = new Set(["MPL-2.0", "CC-BY-4.0"]);

/** Packages whose manifest has no `license`, with what their own files say. */
const UNSTATED: Record<string, string> = {};

const manifestPaths = filesBelow().filter((path) => /(?:^|\/)package\.json$/u.test(path));
const lockPaths = filesBelow().filter((path) => /(?:^|\/)package-lock\.json$/u.test(path));

function entriesOf(lockPath: string): [string, LockEntry][] {
  const { packages } = readJson<{ packages: Record<string, LockEntry> }>(lockPath);
  return Object.entries(packages);
}

function allows(expression: string, isTool: boolean): boolean {
  const names = expression.replaceAll(/[()]/gu, "").split(" OR ");
  return names.some((name) => {
    return name
      .split(" AND ")
      .every((one) => LICENCES.has(one) || (isTool && TOOL_LICENCES.has(one)));
  });
}

function nameIn(path: string): string {
  return path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
}

describe("dependencies", () => {
  test("every version is pinned exactly", () => {
    const wrong = manifestPaths.flatMap((path) => {
      const manifest = readJson<Manifest>(path);
      const all = {
        ...manifest.dependencies,
        ...manifest.devDependencies,
        ...manifest.optionalDependencies,
      };
      const loose = Object.entries(all).filter(
        ([, version]) => !/^\d+\.\d+\.\d+(?:-[\w.]+)?$/u.test(version),
      );
      return loose.map(([name, version]) => `${path}: ${name} ${version}`);
    });
    expect(wrong).toEqual([]);
  });

  test.for(lockPaths)("%s has every platform's build that an exact pin asks for", (lockPath) => {
    const entries = entriesOf(lockPath);
    const locked = new Map<string, Set<string>>();
    for (const [path, entry] of entries) {
      const versions = locked.get(nameIn(path)) ?? new Set();
      locked.set(nameIn(path), versions.add(entry.version ?? ""));
    }
    const missing = entries.flatMap(([path, entry]) => {
      const exact = Object.entries(entry.optionalDependencies ?? {}).filter(([, version]) =>
        /^\d/u.test(version),
      );
      return exact
        .filter(([name, version]) => locked.get(name)?.has(version) !== true)
        .map(([name, version]) => `${path}: ${name} ${version}`);
    });
    expect(missing).toEqual([]);
  });

  test.for(lockPaths)("%s has a checksum for everything that is fetched", (lockPath) => {
    const wrong = entriesOf(lockPath).filter(([path, entry]) => {
      return path.includes("node_modules/") && entry.link !== true && entry.integrity === undefined;
    });
    expect(wrong.map(([path]) => path)).toEqual([]);
  });

  test.for(lockPaths)("%s has only licences that Belljar may be shipped with", (lockPath) => {
    const isExample = lockPath.startsWith("examples/");
    const wrong = entriesOf(lockPath).filter(([path, entry]) => {
      if (!path.includes("node_modules/") || entry.link === true) return false;
      const licence = entry.license ?? UNSTATED[nameIn(path)];
      return licence === undefined || !allows(licence, isExample || entry.dev === true);
    });
    expect(wrong.map(([path, entry]) => `${path}: ${entry.license ?? "none stated"}`)).toEqual([]);
  });

  test("allows() reads alternatives and refuses what is not on the list", () => {
    expect(allows("(MIT OR GPL-3.0-only)", false)).toBe(true);
    expect(allows("MIT AND GPL-3.0-only", false)).toBe(false);
    expect(allows("MPL-2.0", true)).toBe(true);
    expect(allows("MPL-2.0", false)).toBe(false);
  });
});
