import { expect, test } from "vitest";
import { formatLogLine } from "./daemon-log.ts";

const plain = (_style: string, text: string) => text;

test("formatLogLine() shows one canonical line: time, level, event, outcome, duration, fields", () => {
  const line = JSON.stringify({
    level: 30,
    time: "2026-01-31T12:00:01.500Z",
    event: "sandbox.create",
    outcome: "ok",
    durationMs: 6.25,
    sandboxId: "a1",
  });
  expect(formatLogLine(line, plain)).toBe("12:00:01 info  sandbox.create ok 6.3 ms sandboxId=a1");
});

test("formatLogLine() shows what is not the log's JSON as it is, without its control characters", () => {
  expect(formatLogLine("plain text", plain)).toBe("plain text");
  expect(formatLogLine('{"cut', plain)).toBe('{"cut');
  expect(formatLogLine("\x1b[2J", plain)).toBe("\\x1b[2J");
});
