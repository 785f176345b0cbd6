import { ERRORS } from "@belljar/protocol";
import { describe, expect, test } from "vitest";
import { isTestCode, parseModule, read, sourcesBelow, type SyntaxNode } from "./repository.ts";

const ERROR_TABLE = "packages/protocol/src/errors.ts";
const ERROR_PAGE = "docs/reference/errors.md";

const shipped = ["packages/protocol/src", "packages/sdk/src"]
  .flatMap((folder) => sourcesBelow(folder))
  .filter((path) => !isTestCode(path));

/** Names that an export statement declares; a re-export declares none. */
function declaredNames(node: SyntaxNode): string[] {
  const { declaration } = node;
  if (declaration === undefined || declaration === null) return [];
  if (declaration.declarations !== undefined)
    return declaration.declarations.map((it) => it.id.name ?? "?");
  return [declaration.id?.name ?? "?"];
}

/** Exports without a docstring; a type inferred from a schema has the schema's. */
function undocumented(path: string): string[] {
  const text = read(path);
  const documented = new Set<string>();
  const bare: { name: string; schema: string | undefined }[] = [];
  for (const node of parseModule(path)) {
    if (node.type !== "ExportNamedDeclaration") continue;
    const names = declaredNames(node);
    const schema = /= z\.(?:infer|input|output)<typeof (\w+)>/u.exec(
      text.slice(node.start, node.end),
    )?.[1];
    if (hasDocstring(text.slice(0, node.start))) names.forEach((name) => documented.add(name));
    else bare.push(...names.map((name) => ({ name, schema })));
  }
  return bare
    .filter(({ name, schema }) => !documented.has(name) && schema === undefined)
    .map(({ name }) => `${path}: ${name}`);
}

function hasDocstring(before: string): boolean {
  return /\/\*\*(?:(?!\*\/)[\s\S])*\*\/\s*$/u.test(before);
}

describe("contracts", () => {
  test("every export of protocol and sdk has a docstring", () => {
    expect(shipped.flatMap(undocumented)).toEqual([]);
  });

  test("every error code is used somewhere", () => {
    const sources = sourcesBelow("packages").filter(
      (path) => path !== ERROR_TABLE && !isTestCode(path),
    );
    const text = sources.map(read).join("\n");
    expect(Object.keys(ERRORS).filter((code) => !text.includes(`"${code}"`))).toEqual([]);
  });

  test("the reference page has every error code and no other", () => {
    const documented = [...read(ERROR_PAGE).matchAll(/`([A-Z][A-Z_]{3,})`/gu)].map(
      (match) => match[1] ?? "",
    );
    const codes = Object.keys(ERRORS);
    expect(codes.filter((code) => !documented.includes(code))).toEqual([]);
    expect([...new Set(documented)].filter((code) => !codes.includes(code))).toEqual([]);
  });
});
