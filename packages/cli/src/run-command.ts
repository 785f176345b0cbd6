import type { CommandExit, OutputChunk, RunningCommand } from "@belljar/sdk";
import { BelljarError } from "@belljar/protocol";
import type { Context } from "./command.ts";
import { EXIT, EXIT_SIGNAL_BASE, EXIT_TIMED_OUT } from "./failure.ts";

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGBUS: 7,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
  SIGXCPU: 24,
  SIGXFSZ: 25,
  SIGSYS: 31,
};

/** The exit code that says how the command ended, as a shell would. */
export function exitCodeOf(exit: Pick<CommandExit, "exitCode" | "signal" | "reason">): number {
  if (exit.reason === "timeout") return EXIT_TIMED_OUT;
  if (exit.exitCode !== null) return exit.exitCode;
  const number = exit.signal === null ? undefined : SIGNAL_NUMBERS[exit.signal];
  return number === undefined ? EXIT.failed : EXIT_SIGNAL_BASE + number;
}

/** Takes the command's output to its end; a promise from `take` holds the command back. */
export async function drainOutput(
  output: AsyncIterable<OutputChunk>,
  take: (chunk: OutputChunk) => Promise<void> | void,
): Promise<void> {
  for await (const chunk of output) await take(chunk);
}

/**
 * Gives standard input to the command until either ends. The read that is under way when the command
 * ends is left behind: the process exits without it.
 */
export async function feedStdin(
  command: RunningCommand,
  source: AsyncIterable<Uint8Array>,
): Promise<void> {
  try {
    for await (const data of source) await command.writeStdin(data);
    command.endStdin();
  } catch (error) {
    // A command that ends without reading all of its input is no failure.
    if (!BelljarError.is(error, "PROCESS_NOT_FOUND")) throw error;
  }
}

/** Passes Ctrl-C on as what it is, so that the command may end by its own rules; a second one ends us. */
export function passSignals(context: Context, command: RunningCommand): () => void {
  const pass = () => command.signal(context.signal.reason === "SIGINT" ? "SIGINT" : "SIGTERM");
  context.signal.addEventListener("abort", pass, { once: true });
  return () => context.signal.removeEventListener("abort", pass);
}

/** Says why a command's end is unknown, where it is. */
export function assertKnownEnd(exit: CommandExit): void {
  if (exit.reason === "lost") {
    throw new BelljarError(
      "GUEST_UNREACHABLE",
      "the sandbox ended before the command did; its outcome is not known",
    );
  }
}
