import { expect, test } from "vitest";
import { visible } from "./visible.ts";

test("visible() spells out what would move the cursor, retitle the terminal or turn the text around", () => {
  expect(visible("a\x1b]0;title\x07b")).toBe("a\\x1b]0;title\\x07b");
  expect(visible("\u202eevil")).toBe("\\u202eevil");
  expect(visible("one\r\ntwo")).toBe("one\\x0d\\x0atwo");
});

test("visible() leaves text alone, and line feeds where they are wanted", () => {
  expect(visible("héllo – 世界 🎉")).toBe("héllo – 世界 🎉");
  expect(visible("one\ntwo", { lines: true })).toBe("one\ntwo");
});
