import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { renderCliReference } from "./reference.ts";

test("docs/reference/cli.md is the page that the command table makes", () => {
  const page = new URL("../../../docs/reference/cli.md", import.meta.url);
  expect(readFileSync(page, "utf8")).toBe(renderCliReference());
});
