import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { filesBelow, isTestCode, read } from "./repository.ts";

/** These rules' own words would be found here. */
const files = filesBelow().filter((path) => {
  return !path.startsWith("tests/tidy/") && !path.endsWith("package-lock.json");
});
const code = files.filter((path) => /\.(?:ts|tsx|mjs|c|h)$/u.test(path));
const tests = code.filter(isTestCode);

interface Row {
  says: string;
  where: string[];
  pattern: RegExp;
  finds: string[];
  leaves: string[];
}

/** Where this very clone lies, which differs from machine to machine. */
const CHECKOUT = resolve(import.meta.dirname, "../..");

const ROWS: Row[] = [
  {
    says: "nothing names a path of the machine it was written on",
    where: files,
    pattern: new RegExp(
      `${CHECKOUT.replaceAll(".", "[.]")}|/home/(?!user\\b|\\$)[a-z]+/[a-z]`,
      "u",
    ),
    finds: [`cd ${CHECKOUT}`, "see /home/anna/x.md"],
    leaves: ["`${volume}/upper/`", "/tmp/x", "/home/user/app"],
  },
  {
    says: "nothing but a test reaches into root's home",
    where: files.filter((path) => !isTestCode(path)),
    pattern: /["'`\s(]\/root\//u,
    finds: ['open("/root/.ssh/id")'],
    leaves: ["chroot/root/x", "/roots/"],
  },
  {
    says: "nothing names a package registry's host",
    where: files,
    pattern: /\bregistry\.[a-z]+\.(?:org|com)\b|\bdeb\.[a-z]+\.org\b/u,
    finds: [`https://${["registry", "example", "org"].join(".")}/`],
    leaves: ["the registry", "packages of Debian"],
  },
  {
    says: "a note to do something later names its issue or decision",
    where: code,
    pattern: /\bTODO\b(?!\([^)]+\))|\b(?:FIXME|HACK|XXX)\b/u,
    finds: ["// TODO: later", "// FIXME", "/* XXX */"],
    leaves: ["// TODO(#12): later", "mkdtemp XXXXXX"],
  },
  {
    says: "no test is singled out, and none is skipped outright",
    where: tests,
    pattern: /\b(?:test|it|describe)\.(?:only|skip|todo)\b/u,
    finds: ['test.only("a", run)', 'describe.skip("b", run)'],
    leaves: ['test("only", run)', 'test.skipIf(cannot)("a", run)'],
  },
  {
    says: "comments tell what is, not what was",
    where: code,
    pattern: /(?:\/\/|\*).*\b(?:previously|was renamed|used to be|formerly)\b/iu,
    finds: ["// Previously an array.", " * was renamed from b"],
    leaves: ["// the previous page", 'say("previously")'],
  },
];

/** Each line that matches, as `path:line: text`. */
function linesWith(paths: string[], pattern: RegExp): string[] {
  return paths.flatMap((path) => {
    const lines = read(path).split("\n");
    return lines.flatMap((line, at) =>
      pattern.test(line) ? [`${path}:${at + 1}: ${line.trim()}`] : [],
    );
  });
}

/** Whether a test file, or a helper that it imports, asks the variable before it skips. */
function asksBeforeSkipping(path: string): boolean {
  return (
    read(path).includes("BELLJAR_MUST_SANDBOX") ||
    /from "[^"]*(?:testing|support)\//u.test(read(path))
  );
}

describe("text", () => {
  test.for(ROWS)("$says", ({ where, pattern }) => {
    expect(linesWith(where, pattern)).toEqual([]);
  });

  test.for(ROWS)(
    "a rule finds its faults and leaves the neighbours: $says",
    ({ pattern, finds, leaves }) => {
      expect(finds.filter((line) => !pattern.test(line))).toEqual([]);
      expect(leaves.filter((line) => pattern.test(line))).toEqual([]);
    },
  );

  test("a test is skipped only where BELLJAR_MUST_SANDBOX is asked", () => {
    const skipping = tests.filter((path) => /\bskipIf\(|\brunIf\(|\bskip\(/u.test(read(path)));
    expect(skipping.filter((path) => !asksBeforeSkipping(path))).toEqual([]);
  });
});
