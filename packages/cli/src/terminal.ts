import type { CommandExit, TerminalSize } from "@belljar/sdk";
import type { StreamedCommand } from "./client.ts";
import type { Output } from "./output.ts";
import { drainOutput } from "./run-command.ts";

const FALLBACK_SIZE: TerminalSize = { columns: 80, rows: 24 };
const CARRIAGE_RETURN = 0x0d;
const LINE_FEED = 0x0a;
const TILDE = 0x7e;
const DOT = 0x2e;

/** The size of this terminal. */
export function terminalSize(): TerminalSize {
  return {
    columns: process.stdout.columns || FALLBACK_SIZE.columns,
    rows: process.stdout.rows || FALLBACK_SIZE.rows,
  };
}

/** Variables that a terminal program inside goes by. */
export function terminalEnvironment(): Record<string, string> {
  const { TERM = "xterm-256color", COLORTERM } = process.env;
  return { TERM, ...(COLORTERM === undefined ? {} : { COLORTERM }) };
}

/**
 * Connects this terminal with the command's until the command ends. The terminal is raw meanwhile,
 * and is given back as it was on every way out.
 */
export async function runInTerminal(
  streamed: StreamedCommand,
  output: Output,
  signal: AbortSignal,
): Promise<CommandExit> {
  const { command } = streamed;
  const restore = makeRaw();
  const resize = () => command.resize(terminalSize());
  const hangUp = () => command.close();
  const escape = new EscapeWatch();
  const type = (data: Buffer) => {
    if (escape.sees(data)) return hangUp();
    // Keys typed after the end go nowhere; the end itself is reported below.
    void command.writeStdin(data).catch(() => undefined);
  };
  const endInput = () => command.endStdin();
  process.stdin.on("data", type);
  process.stdin.on("end", endInput);
  process.stdout.on("resize", resize);
  signal.addEventListener("abort", hangUp, { once: true });
  try {
    // The window may have changed between the request and the start.
    resize();
    await drainOutput(streamed.output, (chunk) => output.bytes("stdout", chunk.data));
    return await command.exited;
  } finally {
    process.stdin.off("data", type).off("end", endInput).pause();
    process.stdout.off("resize", resize);
    signal.removeEventListener("abort", hangUp);
    restore();
  }
}

/** Puts the terminal into raw mode. The returned function, and the process's exit, put it back. */
function makeRaw(): () => void {
  const { stdin } = process;
  if (!stdin.isTTY) return () => undefined;
  const restore = () => {
    stdin.setRawMode(false);
  };
  process.once("exit", restore);
  stdin.setRawMode(true);
  return () => {
    process.off("exit", restore);
    restore();
  };
}

/** Recognises Enter, `~`, `.`: the way out of a connection that hangs. */
export class EscapeWatch {
  #matched = 1;

  /** Whether the keys complete the sequence. They are passed on all the same: a shell that lives gets them. */
  sees(data: Uint8Array): boolean {
    for (const key of data) {
      if (key === CARRIAGE_RETURN || key === LINE_FEED) this.#matched = 1;
      else if (this.#matched === 1 && key === TILDE) this.#matched = 2;
      else if (this.#matched === 2 && key === DOT) return true;
      else this.#matched = 0;
    }
    return false;
  }
}
