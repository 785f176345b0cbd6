import { describe, expect, test } from "vitest";
import { UsageError } from "../failure.ts";
import { formatBytes, parseBytes, parseBytesOrNone } from "./bytes.ts";
import { parseCopySpec } from "./copy-spec.ts";
import { formatDuration, parseDuration, parseDurationOrNever } from "./duration.ts";
import { parseCount, parseCpus, parsePort, parsePortWish } from "./numbers.ts";
import { parseEnv, parsePair } from "./pairs.ts";

describe("parseBytes()", () => {
  test.for<[string, number]>([
    ["0", 0],
    ["1048576", 1_048_576],
    ["512m", 512 * 1024 ** 2],
    ["512M", 512 * 1024 ** 2],
    ["64KiB", 65_536],
    ["64kb", 65_536],
    ["1.5g", 1.5 * 1024 ** 3],
    ["2t", 2 * 1024 ** 4],
  ])("reads %s", ([text, bytes]) => expect(parseBytes(text)).toBe(bytes));

  test.for([
    "",
    " ",
    "m",
    "-1m",
    "5x",
    "1e3",
    "0x10",
    "1 m",
    "1.m",
    ".5m",
    "9007199254740993",
    "9999999t",
    "1mm",
    "none",
  ])("refuses %j", (text) => expect(() => parseBytes(text)).toThrow(UsageError));

  test("parseBytesOrNone() reads none as null, and sizes as parseBytes() does", () => {
    expect(parseBytesOrNone("none")).toBeNull();
    expect(parseBytesOrNone("1k")).toBe(1024);
  });

  test.for<[number, string]>([
    [0, "0 B"],
    [1023, "1023 B"],
    [1536, "1.5 KiB"],
    [512 * 1024 ** 2, "512 MiB"],
    [3 * 1024 ** 5, "3072 TiB"],
  ])("formatBytes() writes %d as %s", ([bytes, text]) => expect(formatBytes(bytes)).toBe(text));
});

describe("parseDuration()", () => {
  test.for<[string, number]>([
    ["500ms", 500],
    ["30s", 30_000],
    ["35m", 2_100_000],
    ["1h30m", 5_400_000],
    ["2d", 172_800_000],
    ["0.5s", 500],
    ["0s", 0],
  ])("reads %s", ([text, durationMs]) => expect(parseDuration(text)).toBe(durationMs));

  test.for(["", "30", "m", "-5m", "5 m", "1h-5m", "5M", "1y", "never", "1e9s", "1h 30m"])(
    "refuses %j",
    (text) => expect(() => parseDuration(text)).toThrow(UsageError),
  );

  test("parseDurationOrNever() reads never as null, and durations as parseDuration() does", () => {
    expect(parseDurationOrNever("never")).toBeNull();
    expect(parseDurationOrNever("1s")).toBe(1000);
  });

  test.for<[number, string]>([
    [12, "12ms"],
    [999, "999ms"],
    [1000, "1s"],
    [90_000, "1m 30s"],
    [3_600_000, "1h"],
    [90_061_000, "1d 1h"],
  ])("formatDuration() writes %d as %s", ([durationMs, text]) =>
    expect(formatDuration(durationMs)).toBe(text),
  );
});

describe("parseEnv() and parsePair()", () => {
  test.for<[string, [string, string]]>([
    ["A=1", ["A", "1"]],
    ["_a9=", ["_a9", ""]],
    ["URL=http://x/?a=b", ["URL", "http://x/?a=b"]],
  ])("read %s", ([text, pair]) => expect(parseEnv(text)).toEqual(pair));

  test.for(["", "A", "=1", "9A=1", "A-B=1", "A B=1"])("parseEnv() refuses %j", (text) =>
    expect(() => parseEnv(text)).toThrow(UsageError),
  );

  test("parsePair() takes keys that no variable could have", () => {
    expect(parsePair("team/web=a b")).toEqual(["team/web", "a b"]);
    expect(() => parsePair("team")).toThrow(UsageError);
  });
});

describe("parseCopySpec()", () => {
  test.for<[string, object]>([
    [".", { kind: "local", path: "." }],
    ["/abs/path", { kind: "local", path: "/abs/path" }],
    ["./a:b", { kind: "local", path: "./a:b" }],
    ["dir/a:b", { kind: "local", path: "dir/a:b" }],
    ["web:/", { kind: "sandbox", sandbox: "web", path: "/" }],
    ["web:/home/a:b", { kind: "sandbox", sandbox: "web", path: "/home/a:b" }],
    ["a0123456789012345678:/x", { kind: "sandbox", sandbox: "a0123456789012345678", path: "/x" }],
  ])("reads %s", ([text, spec]) => expect(parseCopySpec(text)).toEqual(spec));

  test.for(["", "web:", "web:relative", ":/x", "WEB:/x", "we b:/x", "-web:/x", "..:/x", "a\0b"])(
    "refuses %j",
    (text) => expect(() => parseCopySpec(text)).toThrow(UsageError),
  );
});

describe("numbers", () => {
  test.for(["1", "80", "65535"])("parsePort() reads %s", (text) =>
    expect(parsePort(text)).toBe(Number(text)),
  );
  test.for(["0", "65536", "-1", "8o", "", "1.5", "1e3"])("parsePort() refuses %j", (text) =>
    expect(() => parsePort(text)).toThrow(UsageError),
  );
  test("parsePortWish() reads a port with and without a visibility", () => {
    expect(parsePortWish("80")).toEqual({ port: 80 });
    expect(parsePortWish("80:link")).toEqual({ port: 80, visibility: "link" });
  });
  test.for(["80:", "80:open", "80:link:x", ":link", "x:link"])(
    "parsePortWish() refuses %j",
    (text) => expect(() => parsePortWish(text)).toThrow(UsageError),
  );
  test("parseCount() and parseCpus() read numbers and refuse the rest", () => {
    expect(parseCount("0")).toBe(0);
    expect(parseCpus("0.5")).toBe(0.5);
    for (const text of ["", "-1", "1.5", "a"]) expect(() => parseCount(text)).toThrow(UsageError);
    for (const text of ["", "0", "-1", "a", "1."])
      expect(() => parseCpus(text)).toThrow(UsageError);
  });
});
