import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readJson, ROOT } from "./repository.ts";

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  notes: string[];
}

interface TestResults {
  countResults: (path: string, options: { exitCode: number; mayNotSkip: boolean }) => Counts;
  summaryLine: (counts: { passed: number; failed: number; skipped: number }) => string;
}

interface Stamps {
  filesBelow(directory: string): string[];
  hashInputs(facts: unknown, files: string[]): string;
  readStamp(path: string): string | undefined;
  writeStamp(path: string, hash: string): void;
  clearStamp(path: string): void;
}

/** The scripts are plain JavaScript, so their types are said here. */
async function load<Shape>(path: string): Promise<Shape> {
  return (await import(join(ROOT, path))) as Shape;
}

const directory = mkdtempSync(join(tmpdir(), "belljar-scripts-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

interface FileReport {
  name: string;
  status: string;
  assertionResults: { status: string; fullName: string }[];
}

function report(name: string, testResults: FileReport[]): string {
  const path = join(directory, `${name}.json`);
  writeFileSync(path, JSON.stringify({ testResults }));
  return path;
}

const passed = { status: "passed", fullName: "works" };
const skipped = { status: "skipped", fullName: "cannot here" };
const failed = { status: "failed", fullName: "breaks" };

describe("countResults()", async () => {
  const { countResults, summaryLine } = await load<TestResults>("scripts/lib/test-results.mjs");

  test("counts what passed, failed and was skipped", () => {
    const file = {
      name: "a.test.ts",
      status: "failed",
      assertionResults: [passed, passed, failed, skipped],
    };
    const counts = countResults(report("mixed", [file]), { exitCode: 1, mayNotSkip: false });
    expect(counts).toMatchObject({ passed: 2, failed: 1, skipped: 1 });
    expect(summaryLine(counts)).toBe("2 passed, 1 failed, 1 skipped");
  });

  test("has no third number when nothing was skipped", () => {
    expect(summaryLine({ passed: 3, failed: 0, skipped: 0 })).toBe("3 passed, 0 failed");
  });

  test("makes a skip a failure where nothing may be skipped", () => {
    const file = { name: "a.test.ts", status: "passed", assertionResults: [passed, skipped] };
    const counts = countResults(report("skip", [file]), { exitCode: 0, mayNotSkip: true });
    expect(counts).toMatchObject({ passed: 1, failed: 1, skipped: 0 });
    expect(counts.notes.join()).toContain("cannot here");
  });

  test("counts a file that did not load as a failure", () => {
    const file = { name: "a.test.ts", status: "failed", assertionResults: [] };
    const good = { name: "b.test.ts", status: "passed", assertionResults: [passed] };
    const counts = countResults(report("load", [file, good]), { exitCode: 1, mayNotSkip: false });
    expect(counts).toMatchObject({ passed: 1, failed: 1 });
  });

  test("counts a run that ended badly without a failed test as a failure", () => {
    const file = { name: "a.test.ts", status: "passed", assertionResults: [passed] };
    const path = report("crash", [file]);
    expect(countResults(path, { exitCode: 1, mayNotSkip: false })).toMatchObject({
      passed: 1,
      failed: 1,
    });
    expect(countResults(path, { exitCode: 0, mayNotSkip: false })).toMatchObject({
      passed: 1,
      failed: 0,
    });
  });

  test("counts a run without a report, and one without a test, as a failure", () => {
    const none = countResults(join(directory, "none.json"), { exitCode: 0, mayNotSkip: false });
    expect(none.failed).toBe(1);
    expect(countResults(report("empty", []), { exitCode: 0, mayNotSkip: false }).failed).toBe(1);
  });
});

describe("stamps", async () => {
  const stamps = await load<Stamps>("scripts/lib/stamp.mjs");

  test("a hash follows names, contents and facts, and nothing else", () => {
    const file = join(directory, "source.c");
    writeFileSync(file, "int a;");
    const first = stamps.hashInputs(["x64"], [file]);
    writeFileSync(file, "int a;");
    expect(stamps.hashInputs(["x64"], [file])).toBe(first);
    expect(stamps.hashInputs(["arm64"], [file])).not.toBe(first);
    writeFileSync(file, "int b;");
    expect(stamps.hashInputs(["x64"], [file])).not.toBe(first);
  });

  test("a stamp that was cleared vouches for nothing", () => {
    const path = join(directory, "deep/stamp");
    expect(stamps.readStamp(path)).toBeUndefined();
    stamps.writeStamp(path, "abc");
    expect(stamps.readStamp(path)).toBe("abc");
    stamps.clearStamp(path);
    expect(stamps.readStamp(path)).toBeUndefined();
  });
});

describe("bootstrap.mjs", () => {
  function bootstrap(...args: string[]) {
    const script = join(ROOT, "scripts/bootstrap.mjs");
    return spawnSync(process.execPath, [script, ...args], { encoding: "utf8" });
  }

  test("refuses an option that it does not know, with its usage and status 2", () => {
    const { status, stderr, stdout } = bootstrap("--frob");
    expect(status).toBe(2);
    expect(stderr).toContain("usage: node scripts/bootstrap.mjs");
    expect(stdout).toBe("");
  });

  test("refuses a purpose that it does not know", () => {
    const { status, stderr } = bootstrap("--for", "fun");
    expect(status).toBe(2);
    expect(stderr).toContain("--for fun is unknown");
  });

  test("asks for a newer Node in one line, before an old one has to parse the rest", () => {
    const floor = join(ROOT, "scripts/lib/node-floor.mjs");
    const program = `
      Object.defineProperty(process, "versions", { value: { ...process.versions, node: process.argv[1] } });
      const { runCommand } = await import(${JSON.stringify(floor)});
      await runCommand(async () => ({ main: async () => console.log("ran") }));`;
    const start = (version: string) => {
      const args = ["--input-type=module", "--eval", program, version];
      return spawnSync(process.execPath, args, { encoding: "utf8" });
    };
    const old = start("20.18.9");
    expect(old.status).toBe(1);
    expect(old.stdout).toBe("");
    expect(old.stderr.trim().split("\n")).toHaveLength(1);
    expect(old.stderr).toContain("Node 20.19 or newer");
    expect(start("20.19.0").stdout).toBe("ran\n");
    expect(start("24.1.0").stdout).toBe("ran\n");
  });
});

describe("programs of the repository", () => {
  test.for([".ci/run", "packages/cli/bin/belljar"])("%s can be executed", (path) => {
    expect(() => accessSync(join(ROOT, path), constants.X_OK)).not.toThrow();
  });

  test("every script that package.json starts is there", () => {
    const { scripts } = readJson<{ scripts: Record<string, string> }>("package.json");
    const paths = Object.values(scripts).flatMap(
      (line) => line.match(/scripts\/[\w-]+\.mjs/gu) ?? [],
    );
    expect(paths.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    expect(paths.length).toBeGreaterThan(5);
  });
});
