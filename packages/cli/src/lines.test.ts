import { expect, test } from "vitest";
import { LineSplitter } from "./lines.ts";

function split(chunks: readonly Uint8Array[]): string[] {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => lines.push(line));
  for (const chunk of chunks) splitter.push(chunk);
  splitter.end();
  return lines;
}

test("LineSplitter gives the same lines however the bytes are cut", () => {
  const bytes = Buffer.from("één\ntwee 🎉\n\ndrie");
  const expected = ["één", "twee 🎉", "", "drie"];
  expect(split([bytes])).toEqual(expected);
  expect(split([...bytes].map((byte) => Uint8Array.of(byte)))).toEqual(expected);
});

test("LineSplitter hands over a line that never ends in bounded pieces", () => {
  const pieces = split(Array.from({ length: 20 }, () => Buffer.alloc(64 * 1024, "x")));
  expect(pieces.length).toBeGreaterThan(1);
  expect(pieces.join("").length).toBe(20 * 64 * 1024);
});
