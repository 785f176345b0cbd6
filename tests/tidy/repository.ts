/** What the tidy tests read: the files of this repository and the shape of its modules. */
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { parseAst } from "vitest/node";

/** The repository's root directory. */
export const ROOT = resolve(import.meta.dirname, "../..");

const SKIPPED = new Set([".belljar", ".git", "build", "coverage", "dist", "node_modules"]);
const GENERATED = /\.(?:tsbuildinfo|cpuprofile)$/u;

/** Files of the repository below `folder`, as paths from its root, without what tools leave there. */
export function filesBelow(folder = ""): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
    if (SKIPPED.has(entry.name) || GENERATED.test(entry.name)) continue;
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) found.push(...filesBelow(path));
    else if (entry.isFile()) found.push(path);
  }
  return found.sort((a, b) => (a < b ? -1 : 1));
}

/** A file's text; `path` is from the repository's root. */
export function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** A JSON file's value; `path` is from the repository's root. */
export function readJson<Shape>(path: string): Shape {
  return JSON.parse(read(path)) as Shape;
}

/** TypeScript sources below a folder, tests included. */
export function sourcesBelow(folder: string): string[] {
  return filesBelow(folder).filter((path) => /\.tsx?$/u.test(path));
}

/** Whether a path is a test, or what only tests use. */
export function isTestCode(path: string): boolean {
  return /\.test\.tsx?$/u.test(path) || path.includes("/testing/") || path.startsWith("tests/");
}

/** The parts of a syntax node that the tidy tests look at. */
export interface SyntaxNode {
  type: string;
  start: number;
  end: number;
  source?: { value?: unknown } | null;
  declaration?: SyntaxNode | null;
  declarations?: { id: { name?: string } }[];
  id?: { name?: string } | null;
}

/** Top-level statements of a TypeScript source. */
export function parseModule(path: string): SyntaxNode[] {
  const lang = path.endsWith("x") ? "tsx" : "ts";
  return parseAst(read(path), { lang }).body as unknown as SyntaxNode[];
}

/** Every module that a source names: imports, re-exports, `import("…")` as a value or in a type. */
export function importsOf(path: string): string[] {
  const named: string[] = [];
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit);
    if (typeof value !== "object" || value === null) return;
    const source: unknown = "source" in value ? value.source : undefined;
    if (isLiteral(source)) named.push(source.value);
    Object.values(value).forEach(visit);
  };
  visit(parseModule(path));
  return named;
}

function isLiteral(node: unknown): node is { value: string } {
  return (
    typeof node === "object" && node !== null && "value" in node && typeof node.value === "string"
  );
}

/** Where a relative import leads, from the repository's root. */
export function resolveImport(from: string, specifier: string): string {
  return join(dirname(from), specifier);
}
