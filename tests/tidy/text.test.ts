import { describe, expect, test } from "vitest";
import { filesBelow, isTestCode, read } from "./repository.ts";

/** These rules' own words would be found here. */
const files = filesBelow().filter((path) => {
  return !path.startsWith("tests/tidy/") && !path.endsWith("package-lock.json");
});
const code = files.filter((path) => /\.(?:ts|tsx|mjs|c|h)$/u.test(path));
const tests = code.filter(isTestCode);

/** Each line that matches, as `path:line: text`. */
function linesWith(paths: string[], pattern: RegExp): string[] {
  return paths.flatMap((path) => {
    const lines = read(path).split("\n");
    return lines.flatMap((line, at) =>
      pattern.test(line) ? [`${path}:${at + 1}: ${line.trim()}`] : [],
    );
  });
}

/** Whether a test file, or a helper it imports beside it, asks the variable before it skips. */
function asksBeforeSkipping(path: string): boolean {
  return (
    read(path).includes("BELLJAR_MUST_SANDBOX") ||
    /from "[^"]*(?:testing|support)\//u.test(read(path))
  );
}

describe("text", () => {
  test("nothing names a path of the machine it was written on", () => {
    const pattern =
      /\/work\/(?:main|shared)|\/tmp\/brief|\/home\/(?!user\b|\$|<|\*|["'`\s)])[a-z]/u;
    expect(linesWith(files, pattern)).toEqual([]);
  });

  test("nothing names a package registry's host", () => {
    expect(linesWith(files, /registry\.(?:npmjs|yarnpkg)|deb\.debian\.org/u)).toEqual([]);
  });

  test("a note to do something later names its issue or decision", () => {
    expect(linesWith(code, /\bTODO\b(?!\([^)]+\))/u)).toEqual([]);
    expect(linesWith(code, /\b(?:FIXME|HACK|XXX)\b/u)).toEqual([]);
  });

  test("no test is singled out", () => {
    expect(linesWith(tests, /\b(?:test|it|describe)\.only\b/u)).toEqual([]);
  });

  test("a test is skipped only where BELLJAR_MUST_SANDBOX is asked", () => {
    const pattern = /\.(?:skip|todo)\b|\bskipIf\(|\brunIf\(/u;
    const skipping = tests.filter((path) => pattern.test(read(path)));
    expect(skipping.filter((path) => !asksBeforeSkipping(path))).toEqual([]);
    expect(linesWith(tests, /\b(?:test|it|describe)\.(?:skip|todo)\(/u)).toEqual([]);
  });

  test("comments tell what is, not what was", () => {
    const pattern = /(?:\/\/|\*).*\b(?:previously|used to be|was renamed|formerly)\b/iu;
    expect(linesWith(code, pattern)).toEqual([]);
  });
});
