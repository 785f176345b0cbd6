import { BelljarError } from "@belljar/protocol";
import { expect, test } from "vitest";
import { safeParts, staysInside } from "./entry-name.ts";

test.for<[string, string[]]>([
  ["./", []],
  ["./a/b", ["a", "b"]],
  ["a//b/./c", ["a", "b", "c"]],
  ["..a/b..", ["..a", "b.."]],
])("safeParts() reads %j", ([name, parts]) => expect(safeParts(name)).toEqual(parts));

test.for(["/etc/passwd", "../x", "a/../../x", "a/..", "a\0b", `a/${"x".repeat(256)}`])(
  "safeParts() ends the copy at %j",
  (name) => {
    expect(() => safeParts(name)).toThrow(BelljarError);
  },
);

test.for<[string, number]>([
  ["b", 0],
  ["./b/c", 0],
  ["../b", 1],
  ["../../b/c", 2],
  ["..", 1],
])("staysInside() accepts the link %j at depth %d", ([target, depth]) =>
  expect(staysInside(target, depth)).toBe(true),
);

test.for<[string, number]>([
  ["", 0],
  ["/etc", 0],
  ["..", 0],
  ["../b", 0],
  ["../../b", 1],
  ["a/..", 0],
  ["../a/../..", 5],
  ["./../a", 0],
  ["a\0", 0],
])("staysInside() refuses the link %j at depth %d", ([target, depth]) =>
  expect(staysInside(target, depth)).toBe(false),
);
