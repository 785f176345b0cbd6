import { BelljarError } from "@belljar/protocol";
import type { SandboxState } from "@belljar/protocol";
import type { PendingTransition } from "../store/index.ts";

/** What can happen to a sandbox. `end`: its processes ended by themselves; `fail`: it never got to run. */
export type Transition = "start" | "thaw" | "freeze" | "stop" | "destroy" | "end" | "fail";

type Row = Readonly<Partial<Record<Transition, SandboxState>>>;

/** Every transition that exists; what is not here is refused. */
const TABLE: Readonly<Record<SandboxState, Row>> = {
  creating: { start: "running", fail: "error", destroy: "destroyed" },
  running: { freeze: "frozen", stop: "stopped", end: "stopped", destroy: "destroyed" },
  frozen: { thaw: "running", stop: "stopped", end: "stopped", destroy: "destroyed" },
  stopped: { start: "running", destroy: "destroyed" },
  archived: { destroy: "destroyed" },
  error: { stop: "stopped", destroy: "destroyed" },
  destroyed: { destroy: "destroyed" },
};

/** Where `transition` leads from `state`, undefined where it does not exist. */
export function nextState(state: SandboxState, transition: Transition): SandboxState | undefined {
  return TABLE[state][transition];
}

/** The same, as SANDBOX_STATE where it does not exist. */
export function requireTransition(
  id: string,
  state: SandboxState,
  transition: Transition,
): SandboxState {
  const next = nextState(state, transition);
  if (next === undefined) {
    throw new BelljarError(
      "SANDBOX_STATE",
      `sandbox ${id} is ${state}: it cannot ${VERBS[transition]}`,
      {
        id,
        state,
        transition,
      },
    );
  }
  return next;
}

const VERBS: Readonly<Record<Transition, string>> = {
  start: "be started",
  thaw: "be thawed",
  freeze: "be frozen",
  stop: "be stopped",
  destroy: "be destroyed",
  end: "end",
  fail: "fail",
};

/**
 * The state that others may act on. Going to rest shows as rest from its first moment, so that a visitor
 * waits for the wake behind it instead of dialling what is about to stop; waking shows only when done.
 */
export function visibleState(state: SandboxState, pending: PendingTransition | null): SandboxState {
  switch (pending) {
    case "freeze":
      return "frozen";
    case "stop":
      return "stopped";
    case "destroy":
    case "destroy-keep":
      return "destroyed";
    case "start":
    case "thaw":
    case null:
      return state;
  }
}
