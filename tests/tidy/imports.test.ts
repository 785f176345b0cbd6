import { builtinModules } from "node:module";
import { describe, expect, test } from "vitest";
import {
  filesBelow,
  importsOf,
  isTestCode,
  readJson,
  resolveImport,
  sourcesBelow,
} from "./repository.ts";

/** Which workspace packages each may import. Nobody imports the daemon: what needs one starts it. */
const PACKAGES: Record<string, readonly string[]> = {
  protocol: [],
  sdk: ["protocol"],
  cli: ["protocol", "sdk"],
  dashboard: ["protocol", "sdk"],
  daemon: ["protocol"],
};

/** The daemon's folders from the ground up; a folder imports what lies on a lower floor. */
const FLOORS: readonly (readonly string[])[] = [
  ["kernel"],
  ["config", "log"],
  ["store"],
  ["drivers", "guest"],
  ["sandbox"],
  ["agents", "auth", "gateway", "guard", "tasks", "templates", "vault", "audit", "ops"],
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

interface Use {
  from: string;
  specifier: string;
}

const uses: Use[] = ["packages", "tests", "bench", "scripts"]
  .flatMap((folder) => sourcesBelow(folder))
  .flatMap((from) => importsOf(from).map((specifier) => ({ from, specifier })));

function packageOf(path: string): string | undefined {
  return /^packages\/([^/]+)\//u.exec(path)?.[1];
}

function moduleName(specifier: string): string {
  const parts = specifier.split("/");
  return parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}

function declaredFor(path: string): Set<string> {
  const owner = packageOf(path);
  const root = readJson<Manifest>("package.json");
  const manifests =
    owner === undefined ? [root] : [readJson<Manifest>(`packages/${owner}/package.json`)];
  if (owner !== undefined && isTestCode(path)) manifests.push(root);
  const names = manifests.flatMap((manifest) =>
    Object.keys({
      ...manifest.dependencies,
      ...manifest.devDependencies,
      ...manifest.optionalDependencies,
    }),
  );
  // Tests and benchmarks use the packages as their users do; the root has them as workspaces.
  const workspaces =
    owner === undefined || isTestCode(path) ? ["@belljar/protocol", "@belljar/sdk"] : [];
  return new Set([...names, ...workspaces]);
}

/** The daemon's room that a path lies in: its top folder, or `compose` and `main` themselves. */
function roomOf(path: string): string {
  const inside = path.slice(DAEMON.length);
  return inside.includes("/")
    ? inside.slice(0, inside.indexOf("/"))
    : inside.replace(/[-.].*$/u, "");
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room));
}

const isRelative = ({ specifier }: Use) => specifier.startsWith(".");
const show = ({ from, specifier }: Use) => `${from} imports ${specifier}`;

describe("imports", () => {
  test("a relative import ends in .ts and stays in its package", () => {
    const wrong = uses.filter(isRelative).filter((use) => {
      const target = resolveImport(use.from, use.specifier);
      const isInside = packageOf(use.from) === packageOf(target);
      return !/\.(?:ts|tsx|mjs|json|node)$/u.test(use.specifier) || !isInside;
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("a module from outside is declared by the package that imports it", () => {
    const wrong = uses.filter((use) => {
      if (isRelative(use) || use.specifier.startsWith("node:")) return false;
      return !declaredFor(use.from).has(moduleName(use.specifier));
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("Node's own modules are imported with their prefix", () => {
    const wrong = uses.filter((use) => {
      return !use.specifier.startsWith("node:") && builtinModules.includes(use.specifier);
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("protocol and sdk import nothing that only Node has", () => {
    const wrong = uses.filter((use) => {
      const owner = packageOf(use.from);
      if (owner === undefined || !PLATFORM_FREE.has(owner) || isTestCode(use.from)) return false;
      return use.specifier.startsWith("node:");
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("packages import each other only in the directions of the table", () => {
    const wrong = uses.filter((use) => {
      const target = /^@belljar\/([^/]+)/u.exec(use.specifier)?.[1];
      if (target === undefined) return false;
      if (target === "daemon") return true;
      const owner = packageOf(use.from);
      if (owner === undefined || isTestCode(use.from)) return false;
      return PACKAGES[owner]?.includes(target) !== true;
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("every package has a row in the table", () => {
    const names = new Set(filesBelow("packages").map(packageOf));
    expect([...names].filter((name) => name === undefined || !(name in PACKAGES))).toEqual([]);
  });
});

describe("the daemon's folders", () => {
  const inner = uses
    .filter((use) => use.from.startsWith(DAEMON) && isRelative(use))
    .map((use) => ({ ...use, target: resolveImport(use.from, use.specifier) }))
    .filter((use) => use.target.startsWith(DAEMON) && roomOf(use.from) !== roomOf(use.target));

  test("every folder has a floor", () => {
    const rooms = new Set(sourcesBelow("packages/daemon/src").map(roomOf));
    expect([...rooms].filter((room) => floorOf(room) < 0)).toEqual([]);
  });

  test("a folder imports only what lies on a lower floor", () => {
    const wrong = inner.filter((use) => {
      return !isTestCode(use.from) && floorOf(roomOf(use.target)) >= floorOf(roomOf(use.from));
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("a folder is entered through its index.ts, or by tests through its testing folder", () => {
    const wrong = inner.filter((use) => {
      const inside = use.target.slice(DAEMON.length);
      if (!inside.includes("/")) return false;
      const isIndex = inside === `${roomOf(use.target)}/index.ts`;
      return !isIndex && !(isTestCode(use.from) && inside.includes("/testing/"));
    });
    expect(wrong.map(show)).toEqual([]);
  });

  test("what is for tests is imported by tests alone, and by benchmarks, which start the same daemon", () => {
    const wrong = uses.filter((use) => {
      if (use.from.startsWith("bench/")) return false;
      return (
        isRelative(use) &&
        !isTestCode(use.from) &&
        isTestCode(resolveImport(use.from, use.specifier))
      );
    });
    expect(wrong.map(show)).toEqual([]);
  });
});
