/**
 * Plants one fault for each rule of house-rules.mjs in a copy of the repository's layout, runs the
 * real linter with the real configuration, and sees that it is found; then the same text where the
 * rule does not apply, and the sound neighbour of each fault.
 */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ROOT } from "./repository.ts";

const FOLDER = "packages/daemon/src/sandbox";
const COMPILER_OPTIONS = {
  module: "NodeNext",
  target: "ES2024",
  strict: true,
  types: ["node"],
  noEmit: true,
};

interface Row {
  rule: string;
  fault: string;
  sound: string;
  /** Where the same fault is allowed */
  allowedIn?: string;
}

const ROWS: Row[] = [
  {
    rule: "house(no-direct-spawn)",
    fault: 'import { spawn } from "node:child_process";\nspawn("true", []);',
    sound: 'import { connect } from "node:net";\nconnect(1);',
    allowedIn: "packages/daemon/src/drivers/planted.ts",
  },
  {
    rule: "house(no-direct-spawn)",
    fault: 'export const load = () => import("child_process");',
    sound: 'export const load = () => import("node:net");',
    allowedIn: "packages/cli/src/planted.ts",
  },
  {
    rule: "house(no-shell)",
    fault: 'export const start = (spawn: Function) => spawn("ls -l", { shell: true });',
    sound: 'export const start = (spawn: Function) => spawn("ls", ["-l"], { shell: false });',
  },
  {
    rule: "house(no-shell)",
    fault: 'import { exec } from "node:child_process";\nexec("ls");',
    sound: 'export const exec = (guest: { exec(command: string): void }) => guest.exec("ls");',
  },
  {
    rule: "house(no-recursive-rm)",
    fault: 'import { rm } from "node:fs/promises";\nawait rm("x", { recursive: true });',
    sound: 'import { rm } from "node:fs/promises";\nawait rm("x", { force: true });',
    allowedIn: "tests/planted.ts",
  },
  {
    rule: "house(no-bare-error)",
    fault: 'export function fail(): never {\n  throw new Error("no");\n}',
    sound: "export function fail(error: Error): never {\n  throw error;\n}",
    allowedIn: "packages/daemon/src/kernel/planted.ts",
  },
  {
    rule: "house(no-module-let)",
    fault: "export let count = 0;\nexport function more() {\n  count += 1;\n}",
    sound: "export function count() {\n  let sum = 0;\n  sum += 1;\n  return sum;\n}",
    allowedIn: "packages/daemon/src/sandbox/planted.test.ts",
  },
  {
    rule: "house(reason-for-disable)",
    fault: "// oxlint-disable-next-line no-var\nexport const a = 1;",
    sound:
      "// oxlint-disable-next-line no-var -- the kernel's own example has it\nexport const a = 1;",
  },
  {
    rule: "house(reason-for-disable)",
    fault: "// @ts-expect-error\nexport const a: number = 1;",
    sound: "// @ts-expect-error the declaration of the addon is wrong\nexport const a: number = 1;",
  },
  {
    rule: "house(no-process-env)",
    fault: "export const home = process.env.HOME;",
    sound: "export const id = process.pid;",
    allowedIn: "packages/daemon/src/config/planted.ts",
  },
  {
    rule: "house(no-process-env)",
    fault: 'import { env } from "node:process";\nexport const home = env.HOME;',
    sound: 'import { pid } from "node:process";\nexport const id = pid;',
    allowedIn: "bench/planted.ts",
  },
  {
    rule: "house(no-date-now)",
    fault: "export const when = () => Date.now();",
    sound: "export const when = (now: number) => new Date(now);",
    allowedIn: "packages/daemon/src/kernel/clock.ts",
  },
  {
    rule: "house(no-date-now)",
    fault: "export const when = () => new Date();",
    sound: "export const when = () => new Date(0);",
    allowedIn: "packages/cli/src/planted.ts",
  },
  {
    rule: "house(no-math-random)",
    fault: "export const dice = () => Math.random();",
    sound: "export const dice = () => Math.floor(1.5);",
  },
  {
    rule: "eslint(no-console)",
    fault: 'console.log("hello");',
    sound: "export const log = 1;",
    allowedIn: "scripts/planted.ts",
  },
  {
    rule: "import(no-default-export)",
    fault: "export default 1;",
    sound: "export const one = 1;",
    allowedIn: "vitest.config.ts",
  },
  {
    rule: "typescript(no-explicit-any)",
    fault: "export const parse = (text: any) => text as string;",
    sound: "export const parse = (text: unknown) => text as string;",
  },
  {
    rule: "typescript(no-non-null-assertion)",
    fault: "export const first = (list: string[]) => list[0]!;",
    sound: "export const first = (list: string[]) => list[0];",
  },
  {
    rule: "typescript(no-floating-promises)",
    fault: "export async function work() {}\nexport function start() {\n  work();\n}",
    sound: "export async function work() {}\nexport function start() {\n  return work();\n}",
  },
  {
    rule: "eslint(max-params)",
    fault: "export const sum = (a: 1, b: 1, c: 1, d: 1, e: 1) => [a, b, c, d, e];",
    sound: "export const sum = (a: 1, b: 1, c: 1, d: 1) => [a, b, c, d];",
  },
  {
    rule: "eslint(max-lines-per-function)",
    fault: `export function long() {\n${"  void 0;\n".repeat(70)}}`,
    sound: `export function long() {\n${"  void 0;\n".repeat(60)}}`,
    allowedIn: "packages/daemon/src/sandbox/planted.test.ts",
  },
  {
    rule: "eslint(max-lines)",
    fault: "void 0;\n".repeat(401),
    sound: "void 0;\n".repeat(399),
    allowedIn: "tests/planted.test.ts",
  },
  {
    rule: "eslint(complexity)",
    fault: `export function many(n: number) {\n${range(16)
      .map((i) => `  if (n === ${i}) return 1;\n`)
      .join("")}  return 0;\n}`,
    sound: `export function many(n: number) {\n${range(13)
      .map((i) => `  if (n === ${i}) return 1;\n`)
      .join("")}  return 0;\n}`,
  },
];

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

const PLANTED = ROWS.map((row, index) => ({
  ...row,
  start: (row.fault.split("\n")[0] ?? "").slice(0, 60),
  faultPath: `${FOLDER}/fault-${index}.ts`,
  soundPath: `${FOLDER}/sound-${index}.ts`,
  allowedPath: row.allowedIn?.replace("planted", `allowed-${index}`),
}));

interface Diagnostic {
  code: string;
  filename: string;
}

describe("lint rules", () => {
  let directory = "";
  let found: Diagnostic[] = [];

  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "belljar-lint-"));
    mkdirSync(join(directory, "tests/tidy"), { recursive: true });
    for (const path of [".oxlintrc.json", "tests/tidy/house-rules.mjs"]) {
      cpSync(join(ROOT, path), join(directory, path));
    }
    symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"));
    plant("tsconfig.json", JSON.stringify({ compilerOptions: COMPILER_OPTIONS }));
    for (const row of PLANTED) {
      plant(row.faultPath, row.fault);
      plant(row.soundPath, row.sound);
      if (row.allowedPath !== undefined) plant(row.allowedPath, row.fault);
    }
    found = runLint(directory);
  });

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  function plant(path: string, text: string): void {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), `${text}\n`);
  }

  test.for(PLANTED)("$rule finds `$start`", ({ rule, faultPath, soundPath, allowedPath }) => {
    const codesIn = (path: string) =>
      found.filter((it) => it.filename === path).map((it) => it.code);
    expect(codesIn(faultPath)).toContain(rule);
    expect(codesIn(soundPath)).not.toContain(rule);
    const codesWhereAllowed = allowedPath === undefined ? [] : codesIn(allowedPath);
    expect(codesWhereAllowed).not.toContain(rule);
  });
});

function runLint(cwd: string): Diagnostic[] {
  const program = join(ROOT, "node_modules/oxlint/bin/oxlint");
  try {
    const args = [program, "--type-aware", "--format=json"];
    return parseReport(
      execFileSync(process.execPath, args, { cwd, encoding: "utf8", stdio: "pipe" }),
    );
  } catch (error) {
    // Status 1 is what faults look like; the report is on stdout all the same.
    return parseReport((error as { stdout: string }).stdout);
  }
}

function parseReport(text: string): Diagnostic[] {
  return (JSON.parse(text) as { diagnostics: Diagnostic[] }).diagnostics;
}
