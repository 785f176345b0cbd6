import { expect, test } from "vitest";
import { EscapeWatch } from "./terminal.ts";

function typed(...pieces: string[]): boolean {
  const watch = new EscapeWatch();
  return pieces.map((piece) => watch.sees(Buffer.from(piece))).includes(true);
}

test("EscapeWatch sees Enter, tilde, dot, also at the very start and in pieces", () => {
  expect(typed("~.")).toBe(true);
  expect(typed("ls\r~.")).toBe(true);
  expect(typed("ls\r", "~", ".")).toBe(true);
});

test("EscapeWatch lets every other use of a tilde and a dot pass", () => {
  expect(typed("cd ~.")).toBe(false);
  expect(typed("ls\r~/.")).toBe(false);
  expect(typed("ls\r.~")).toBe(false);
  expect(typed("a~.")).toBe(false);
});
