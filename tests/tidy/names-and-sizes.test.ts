import { closeSync, openSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT, filesBelow, read, sourcesBelow } from "./repository.ts";

const FILE_BYTES_MAX = 200 * 1024;
const C_FILE_LINES_MAX = 400;
const C_FUNCTION_LINES_MAX = 70;
const C_PROGRAM_LINES_MAX = { "native/warden": 2800, "native/guest": 3500 } as const;
const AGENTS_LINES_MAX = 100;
const NESTED_AGENTS_LINES_MAX = 12;

/** Names that others decide: tools, conventions of the trade, React components. */
const GIVEN_NAME =
  /^(?:[A-Z][A-Z_]*(?:\.md)?|Makefile|Dockerfile|[A-Z][A-Za-z]+\.tsx|__snapshots__|\..*|tsconfig\..*)$/u;
const KEBAB = /^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+)*$/u;
const SAYS_NOTHING = /^(?:utils?|helpers|misc|stuff)\./u;
const GENERATED_BY_NPM = /(?:^|\/)package-lock\.json$/u;

const files = filesBelow();
const cFiles = files.filter((path) => /^native\/.*\.[ch]$/u.test(path));

function lineCount(text: string): number {
  return text === "" ? 0 : text.trimEnd().split("\n").length;
}

/** Functions of a C file in our layout: a head that starts at column 0, a body closed by `}` there. */
export function cFunctions(text: string): { name: string; lineCount: number }[] {
  const lines = text.split("\n");
  const found: { name: string; lineCount: number }[] = [];
  let headAt: number | undefined;
  lines.forEach((line, at) => {
    if (headAt === undefined) {
      if (/^[A-Za-z_].*\w\s*\(/u.test(line) && !/[;=]\s*$/u.test(line)) headAt = at;
      return;
    }
    if (line.startsWith("}")) {
      const name = /(\w+)\s*\(/u.exec(lines[headAt] ?? "")?.[1] ?? "?";
      found.push({ name, lineCount: at - headAt + 1 });
      headAt = undefined;
    } else if (/^\S.*;\s*$/u.test(line) || line === "") {
      // A prototype over several lines ends so; a body has its blank lines after its brace.
      const isBody = lines.slice(headAt, at).some((earlier) => /\{\s*$/u.test(earlier));
      if (!isBody) headAt = undefined;
    }
  });
  return found;
}

describe("names", () => {
  test("files and folders are kebab-case", () => {
    const wrong = files.filter((path) => {
      return path.split("/").some((part) => !KEBAB.test(part) && !GIVEN_NAME.test(part));
    });
    expect(wrong).toEqual([]);
  });

  test("no file is called what says nothing", () => {
    expect(files.filter((path) => SAYS_NOTHING.test(basename(path)))).toEqual([]);
  });

  test("identifiers write Id, Url and Http as words", () => {
    const given = new Set(["pathToFileURL", "fileURLToPath", "createObjectURL", "revokeObjectURL"]);
    const wrong = sourcesBelow("packages").flatMap((path) => {
      const names =
        read(path).match(/\b[a-z][A-Za-z]*[a-z](?:ID|URL|HTTP)(?:[A-Z][a-z]\w*)?\b/gu) ?? [];
      return names.filter((name) => !given.has(name)).map((name) => `${path}: ${name}`);
    });
    expect(wrong).toEqual([]);
  });
});

describe("sizes", () => {
  test("a C file has at most 400 lines", () => {
    const wrong = cFiles.filter((path) => lineCount(read(path)) > C_FILE_LINES_MAX);
    expect(wrong).toEqual([]);
  });

  test("a C function has at most 70 lines", () => {
    const wrong = cFiles.flatMap((path) => {
      const long = cFunctions(read(path)).filter((it) => it.lineCount > C_FUNCTION_LINES_MAX);
      return long.map((it) => `${path}: ${it.name} has ${it.lineCount}`);
    });
    expect(wrong).toEqual([]);
  });

  test("cFunctions() counts a function from its head to its brace and leaves prototypes alone", () => {
    const text = [
      "int early(int a,",
      "          int b);",
      "",
      "static const int table[] = {",
      "  1,",
      "};",
      "static int work(int a)",
      "{",
      "",
      "  return a;",
      "}",
      `void long_one(void) {\n${"  x();\n".repeat(80)}}`,
    ].join("\n");
    expect(cFunctions(text)).toEqual([
      { name: "work", lineCount: 5 },
      { name: "long_one", lineCount: 82 },
    ]);
  });

  test.for(Object.entries(C_PROGRAM_LINES_MAX))(
    "%s has at most %d lines in all",
    ([folder, linesMax]) => {
      const own = filesBelow(folder).filter((path) => {
        return /\.[ch]$/u.test(path) && !/\/(?:tests|fuzz|addon)\//u.test(path);
      });
      const total = own.reduce((sum, path) => sum + lineCount(read(path)), 0);
      expect(total, `${folder} has ${total} lines`).toBeLessThanOrEqual(linesMax);
    },
  );

  test("the newcomer's page and its nested ones stay short", () => {
    const wrong = files
      .filter((path) => basename(path) === "AGENTS.md")
      .filter((path) => {
        return (
          lineCount(read(path)) >
          (path === "AGENTS.md" ? AGENTS_LINES_MAX : NESTED_AGENTS_LINES_MAX)
        );
      });
    expect(wrong).toEqual([]);
  });

  test("no program and no large blob is committed", () => {
    const wrong = files.filter((path) => {
      if (GENERATED_BY_NPM.test(path)) return false;
      return statSync(join(ROOT, path)).size > FILE_BYTES_MAX || startsLikeElf(path);
    });
    expect(wrong).toEqual([]);
  });
});

function startsLikeElf(path: string): boolean {
  const head = Buffer.alloc(4);
  const descriptor = openSync(join(ROOT, path), "r");
  try {
    readSync(descriptor, head, 0, head.length, 0);
  } finally {
    closeSync(descriptor);
  }
  return head.equals(Buffer.from("\x7fELF", "latin1"));
}
