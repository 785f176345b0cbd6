import { expect, test } from "vitest";
import { renderTable } from "./table.ts";

const COLUMNS = [{ title: "ID" }, { title: "COMMAND", shrink: true }];

test("renderTable() lines columns up", () => {
  expect(renderTable(COLUMNS, [["a1", "npm test"]])).toEqual(["ID  COMMAND", "a1  npm test"]);
});

test("renderTable() cuts only the columns that may shrink, and no line passes the width", () => {
  const lines = renderTable(COLUMNS, [["a".repeat(10), "x".repeat(200)]], 40);
  expect(lines[1]).toBe(`${"a".repeat(10)}  ${"x".repeat(27)}…`);
  expect(lines.every((line) => line.length <= 40)).toBe(true);
});

test("renderTable() fits a terminal that is narrower than its fixed columns", () => {
  const lines = renderTable(COLUMNS, [["a".repeat(30), "x".repeat(30)]], 20);
  expect(lines.every((line) => line.length <= 20)).toBe(true);
});

test("renderTable() shows control characters instead of printing them", () => {
  expect(renderTable(COLUMNS, [["a1", "\x1b[2J"]])[1]).toBe("a1  \\x1b[2J");
});
