/** Loads the Node-API addon that receives the sockets which the warden opens inside a sandbox. */
import { createRequire } from "node:module";
import { BelljarError } from "@belljar/protocol";
import type { HostPath } from "../../kernel/index.ts";

/** Gives a descriptor, or a negated errno. */
export type Dial = (socketPath: string, request: Buffer) => Promise<number>;

/** The addon's function, or why there is none. */
export function loadDial(addon: HostPath): Dial | { readonly reason: string } {
  try {
    const loaded: unknown = createRequire(import.meta.url)(addon);
    if (isDialAddon(loaded)) return loaded.dial;
    return { reason: `${addon} is not the dial addon` };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split("\n")[0] : String(cause);
    return { reason: `the dial addon could not be loaded: ${why}` };
  }
}

function isDialAddon(loaded: unknown): loaded is { dial: Dial } {
  return (
    typeof loaded === "object" &&
    loaded !== null &&
    "dial" in loaded &&
    typeof loaded.dial === "function"
  );
}

/** The addon's function; LAYER_UNSUPPORTED when it is not there. */
export function requireDial(dial: Dial | { readonly reason: string }): Dial {
  if (typeof dial === "function") return dial;
  throw new BelljarError("LAYER_UNSUPPORTED", dial.reason);
}
