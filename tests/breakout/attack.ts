import type { Arena } from "./arena.ts";

/** What came of one attack. */
export interface Verdict {
  /** Whether the wall held */
  readonly held: boolean;
  /**
   * Whether the same probe gets through where there is no wall, on the host. `absent`: this machine
   * has not got what the probe asks for, so that its refusal proves nothing about us.
   */
  readonly control: "works" | "absent";
  /** What was seen, for whoever reads a failure */
  readonly detail: string;
}

/** One attack: what it tries, against which wall. */
export interface Attack {
  readonly name: string;
  readonly wall:
    | "files"
    | "processes"
    | "kernel"
    | "network"
    | "guest"
    | "leaks"
    | "resources"
    | "users";
  run(arena: Arena): Promise<Verdict>;
}

/** The verdict of a probe whose words say whether it got through. */
export function verdict(
  inside: { got: boolean; said: string },
  control: { got: boolean; said: string },
): Verdict {
  return {
    held: !inside.got,
    control: control.got ? "works" : "absent",
    detail: `inside: ${shortened(inside.said)}; control: ${shortened(control.said)}`,
  };
}

function shortened(text: string): string {
  const line = text.trim().replaceAll(/\s+/g, " ");
  return line.length > 160 ? `${line.slice(0, 160)}…` : line;
}
