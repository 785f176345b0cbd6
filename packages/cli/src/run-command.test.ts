import { expect, test } from "vitest";
import { exitCodeOf } from "./run-command.ts";

test.for([
  [{ exitCode: 0, signal: null, reason: "exited" }, 0],
  [{ exitCode: 7, signal: null, reason: "exited" }, 7],
  [{ exitCode: null, signal: "SIGKILL", reason: "signaled" }, 137],
  [{ exitCode: null, signal: "SIGTERM", reason: "cancelled" }, 143],
  [{ exitCode: null, signal: "SIGTERM", reason: "timeout" }, 124],
  [{ exitCode: null, signal: null, reason: "lost" }, 1],
] as const)("exitCodeOf() says how a command ended, as a shell would: %j", ([exit, code]) => {
  expect(exitCodeOf(exit)).toBe(code);
});
