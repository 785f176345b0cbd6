import { sandboxStateSchema } from "@belljar/protocol";
import { expect, test } from "vitest";
import { nextState, requireTransition, visibleState } from "./state.ts";
import type { Transition } from "./state.ts";

const STATES = sandboxStateSchema.options;
const TRANSITIONS: Transition[] = ["start", "thaw", "freeze", "stop", "destroy", "end", "fail"];

test("the table of transitions is exactly this", () => {
  const all = STATES.map((state) => {
    const row = TRANSITIONS.map(
      (transition) => [transition, nextState(state, transition)] as const,
    );
    return [state, Object.fromEntries(row.filter(([, next]) => next !== undefined))];
  });
  expect(Object.fromEntries(all)).toEqual({
    creating: { start: "running", fail: "error", destroy: "destroyed" },
    running: { freeze: "frozen", stop: "stopped", end: "stopped", destroy: "destroyed" },
    frozen: { thaw: "running", stop: "stopped", end: "stopped", destroy: "destroyed" },
    stopped: { start: "running", destroy: "destroyed" },
    archived: { destroy: "destroyed" },
    error: { stop: "stopped", destroy: "destroyed" },
    destroyed: { destroy: "destroyed" },
  });
});

test("every state can be destroyed", () => {
  for (const state of STATES) expect(nextState(state, "destroy")).toBe("destroyed");
});

test("requireTransition() names the state and what was wanted", () => {
  expect(() => requireTransition("x", "stopped", "freeze")).toThrow(
    "sandbox x is stopped: it cannot be frozen",
  );
  expect(requireTransition("x", "running", "freeze")).toBe("frozen");
});

test("going to rest shows from its first moment, waking only when done", () => {
  expect(visibleState("running", "freeze")).toBe("frozen");
  expect(visibleState("running", "stop")).toBe("stopped");
  expect(visibleState("running", "destroy")).toBe("destroyed");
  expect(visibleState("stopped", "start")).toBe("stopped");
  expect(visibleState("frozen", "thaw")).toBe("frozen");
  expect(visibleState("running", null)).toBe("running");
});
