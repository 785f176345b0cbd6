import { describe, expect, test } from "vitest";
import {
  breaksIn,
  climbs,
  crossesPackages,
  floorOf,
  isBuiltin,
  isUndeclared,
  leavesPackage,
  needsNode,
  packageOf,
  PACKAGES,
  roomOf,
  type Use,
  usesTestCode,
} from "./import-rules.ts";
import { filesBelow, importsOf, sourcesBelow } from "./repository.ts";

const uses: Use[] = ["packages", "tests", "bench", "scripts"]
  .flatMap((folder) => sourcesBelow(folder))
  .flatMap((from) => importsOf(from).map((specifier) => ({ from, specifier })));

interface Row {
  rule: (use: Use) => boolean;
  says: string;
  /** File and module of an import that the rule refuses */
  refused: [string, string][];
  /** Its neighbours that are fine */
  allowed: [string, string][];
}

const SANDBOX = "packages/daemon/src/sandbox/service.ts";
const SANDBOX_TEST = "packages/daemon/src/sandbox/service.test.ts";

const ROWS: Row[] = [
  {
    rule: leavesPackage,
    says: "a relative import ends in .ts and stays in its package",
    refused: [
      [SANDBOX, "./state"],
      [SANDBOX, "../../../protocol/src/index.ts"],
      ["tests/e2e/a.test.ts", "../../packages/sdk/src/index.ts"],
    ],
    allowed: [
      [SANDBOX, "./state.ts"],
      ["bench/main.ts", "../tests/e2e/support/api.ts"],
    ],
  },
  {
    rule: isUndeclared,
    says: "a module from outside is declared by the package that imports it",
    refused: [
      [SANDBOX, "left-pad"],
      [SANDBOX, "vitest"],
      ["packages/sdk/src/index.ts", "fastify"],
    ],
    allowed: [
      [SANDBOX, "zod"],
      [SANDBOX, "node:fs/promises"],
      [SANDBOX_TEST, "vitest"],
      ["tests/e2e/a.test.ts", "@belljar/sdk"],
    ],
  },
  {
    rule: isBuiltin,
    says: "Node's own modules are imported with their prefix",
    refused: [[SANDBOX, "fs"]],
    allowed: [[SANDBOX, "node:fs"]],
  },
  {
    rule: needsNode,
    says: "protocol and sdk import nothing that only Node has",
    refused: [["packages/sdk/src/index.ts", "node:buffer"]],
    allowed: [
      ["packages/sdk/src/index.test.ts", "node:http"],
      ["packages/cli/src/main.ts", "node:fs"],
    ],
  },
  {
    rule: crossesPackages,
    says: "packages import each other only in the directions of the table",
    refused: [
      ["packages/protocol/src/index.ts", "@belljar/sdk"],
      ["packages/daemon/src/main.ts", "@belljar/sdk"],
      ["packages/cli/src/main.ts", "@belljar/daemon"],
      ["tests/e2e/a.test.ts", "@belljar/daemon"],
    ],
    allowed: [
      ["packages/cli/src/main.ts", "@belljar/sdk"],
      ["packages/daemon/src/main.ts", "@belljar/protocol"],
    ],
  },
  {
    rule: climbs,
    says: "a folder of the daemon imports only what lies on a lower floor",
    refused: [
      ["packages/daemon/src/kernel/ids.ts", "../log/index.ts"],
      [SANDBOX, "../gateway/index.ts"],
      ["packages/daemon/src/gateway/front.ts", "../tasks/index.ts"],
      ["packages/daemon/src/drivers/driver.ts", "../guest/index.ts"],
      ["packages/daemon/src/http/api.ts", "../compose.ts"],
      ["packages/daemon/src/compose.ts", "./main.ts"],
    ],
    allowed: [
      [SANDBOX, "../store/index.ts"],
      [SANDBOX, "./state.ts"],
      ["packages/daemon/src/main.ts", "./compose.ts"],
      ["packages/daemon/src/compose.ts", "./addresses.ts"],
    ],
  },
  {
    rule: breaksIn,
    says: "a folder of the daemon is entered through its index.ts, or by tests through its testing folder",
    refused: [
      [SANDBOX, "../store/sqlite.ts"],
      [SANDBOX, "../drivers/native/plan.ts"],
      [SANDBOX, "../drivers/testing/fake.ts"],
      [SANDBOX_TEST, "../store/sqlite.ts"],
    ],
    allowed: [
      [SANDBOX, "../store/index.ts"],
      [SANDBOX, "./parts/rest.ts"],
      [SANDBOX_TEST, "../drivers/testing/fake.ts"],
    ],
  },
  {
    rule: usesTestCode,
    says: "what is for tests is imported by tests alone",
    refused: [[SANDBOX, "./testing/fake-driver.ts"]],
    allowed: [
      [SANDBOX_TEST, "./testing/fake-driver.ts"],
      ["bench/main.ts", "../tests/e2e/support/api.ts"],
    ],
  },
];

describe("imports", () => {
  test.for(ROWS)("$says", ({ rule }) => {
    expect(uses.filter(rule).map(({ from, specifier }) => `${from} imports ${specifier}`)).toEqual(
      [],
    );
  });

  test.for(ROWS)("a rule finds its faults and leaves the neighbours: $says", (row) => {
    const judge = (pairs: [string, string][]) => {
      return pairs.map(([from, specifier]) => row.rule({ from, specifier }));
    };
    expect(judge(row.refused)).toEqual(row.refused.map(() => true));
    expect(judge(row.allowed)).toEqual(row.allowed.map(() => false));
  });

  test("every package has a row in the table", () => {
    const names = new Set(filesBelow("packages").map(packageOf));
    expect([...names].filter((name) => name === undefined || !(name in PACKAGES))).toEqual([]);
  });

  test("every folder of the daemon has a floor", () => {
    const rooms = new Set(sourcesBelow("packages/daemon/src").map(roomOf));
    expect([...rooms].filter((room) => floorOf(room) < 0)).toEqual([]);
  });
});
