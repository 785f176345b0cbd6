import { existsSync, globSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT, filesBelow, read } from "./repository.ts";

/** Pages that name paths of this repository in backticks, always from its root. */
const PATH_PAGES = ["AGENTS.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md"];
const DECISION_LINES_MAX = 70;
const DECISION_HEADINGS = ["Context", "Decision", "Consequences", "Alternatives"];
const CHANGE_HEADINGS = ["Added", "Changed", "Fixed", "Removed", "Security"];

const pages = filesBelow().filter((path) => path.endsWith(".md") && !path.startsWith("examples/"));

/** Text without fenced blocks, in which a path is somebody's input or output. */
function prose(path: string): string {
  return read(path).replace(/^```[\s\S]*?^```/gmu, "");
}

/** Backticked words that can only be paths from the root: a slash inside, no slash before. */
function namedPaths(text: string): string[] {
  const words = [...text.matchAll(/`([^`\s]+)`/gu)].map((match) => match[1] ?? "");
  return words.filter((word) => {
    return (
      /^[\w.][\w.@{},*/-]*$/u.test(word) &&
      word.includes("/") &&
      !/^(?:application|text)\//u.test(word)
    );
  });
}

/** `a/{b,c}/d` is both paths. */
function expand(path: string): string[] {
  const braces = /\{([^{}]*)\}/u.exec(path);
  if (braces === null) return [path];
  return (braces[1] ?? "")
    .split(",")
    .flatMap((part) => expand(path.replace(braces[0], part.trim())));
}

function isThere(path: string): boolean {
  return path.includes("*")
    ? globSync(path, { cwd: ROOT }).length > 0
    : existsSync(join(ROOT, path));
}

/** The anchors that a page's headings get where it is read. */
function anchors(path: string): string[] {
  const headings = [...prose(path).matchAll(/^#+\s+(.+)$/gmu)].map((match) => match[1] ?? "");
  return headings.map((heading) => {
    return heading
      .toLowerCase()
      .replace(/[^\w\- ]/gu, "")
      .replaceAll(" ", "-");
  });
}

function deadLinks(page: string): string[] {
  const links = [...prose(page).matchAll(/\]\(([^)\s]+)\)/gu)].map((match) => match[1] ?? "");
  return links.filter((link) => {
    if (/^(?:https?|mailto):/u.test(link)) return false;
    const [path = "", anchor] = link.split("#");
    const target = path === "" ? page : join(dirname(page), path);
    if (!existsSync(join(ROOT, target))) return true;
    return anchor !== undefined && target.endsWith(".md") && !anchors(target).includes(anchor);
  });
}

describe("documents", () => {
  test.for(PATH_PAGES)("%s names only paths that exist", (page) => {
    const dead = namedPaths(prose(page))
      .flatMap(expand)
      .filter((path) => !isThere(path));
    expect(dead).toEqual([]);
  });

  test("namedPaths() takes paths and leaves commands, types and routes", () => {
    const text =
      "`packages/sdk` `a/{b,c}.ts` `npm test` `/v1/sandboxes` `text/html` `word` `$HOME/x`";
    expect(namedPaths(text).flatMap(expand)).toEqual(["packages/sdk", "a/b.ts", "a/c.ts"]);
    expect(isThere("packages/sdk")).toBe(true);
    expect(isThere("packages/sdk-that-is-not")).toBe(false);
  });

  test("links between pages lead somewhere", () => {
    const dead = pages.flatMap((page) => deadLinks(page).map((link) => `${page}: ${link}`));
    expect(dead).toEqual([]);
  });

  test("a decision is dated, at most a page, and says context, decision, consequences, alternatives", () => {
    const wrong = filesBelow("docs/decisions").filter((path) => {
      const text = read(path);
      const isNamed = /\/\d{4}-\d{2}-\d{2}-[a-z0-9-]+\.md$/u.test(path);
      const isShort = text.trimEnd().split("\n").length <= DECISION_LINES_MAX;
      return (
        !isNamed ||
        !isShort ||
        DECISION_HEADINGS.some((heading) => !text.includes(`\n## ${heading}\n`))
      );
    });
    expect(wrong).toEqual([]);
  });

  test("the changelog opens with what is unreleased, then versions, newest first", () => {
    const text = read("CHANGELOG.md");
    const sections = [...text.matchAll(/^## (.+)$/gmu)].map((match) => match[1] ?? "");
    expect(text.startsWith("# Changelog\n")).toBe(true);
    expect(sections[0]).toBe("Unreleased");
    const released = sections.slice(1);
    expect(released.filter((name) => !/^\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}$/u.test(name))).toEqual(
      [],
    );
    const dates = released.map((name) => name.slice(-10));
    expect(dates).toEqual(dates.toSorted().toReversed());
    const headings = [...text.matchAll(/^### (.+)$/gmu)].map((match) => match[1] ?? "");
    expect(headings.filter((heading) => !CHANGE_HEADINGS.includes(heading))).toEqual([]);
  });

  test("a guide opens with when not to use it", () => {
    const wrong = filesBelow("docs/guides").filter((path) => {
      return !/\bnot\b/iu.test(read(path).split("\n").slice(0, 12).join("\n"));
    });
    expect(wrong).toEqual([]);
  });
});
