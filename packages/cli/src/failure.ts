import type { Output } from "./output.ts";

/** Exit codes of the command; `exec`, `shell` and `task run` pass on the codes of what they ran. */
export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3 } as const;

/** Signals end a process with 128 plus their number; 13 is SIGPIPE, 2 SIGINT. */
export const EXIT_SIGNAL_BASE = 128;
/** What `timeout(1)` exits with; scripts know it. */
export const EXIT_TIMED_OUT = 124;

/** A command line that is not one: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  readonly hint: string;

  constructor(message: string, hint = "Run the command with --help.") {
    super(message);
    this.hint = hint;
  }
}

const BRAND = Symbol.for("belljar.error");

interface AnticipatedFailure {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly retryable: boolean;
  readonly details: Record<string, unknown> | undefined;
}

/**
 * Recognised by its brand and not by its class: loading the class loads every schema with it, and a
 * usage error must not cost that.
 */
export function isAnticipated(error: unknown): error is Error & AnticipatedFailure {
  return error instanceof Error && BRAND in error;
}

/** Prints what happened, why, and what to do next; never a stack. Returns the exit code. */
export function reportFailure(output: Output, error: unknown): number {
  const failure = describeFailure(error);
  if (output.json) {
    const { exitCode: _, ...body } = failure;
    output.errorJson({ error: body });
  } else {
    output.complain(failure.message, failure.hint);
  }
  return failure.exitCode;
}

interface Described {
  code: string;
  message: string;
  retryable: boolean;
  hint: string;
  details?: Record<string, unknown>;
  requestId?: string;
  exitCode: number;
}

function describeFailure(error: unknown): Described {
  if (error instanceof UsageError) {
    return {
      code: "BAD_REQUEST",
      message: error.message,
      retryable: false,
      hint: error.hint,
      exitCode: EXIT.usage,
    };
  }
  if (isAnticipated(error)) {
    const { requestId, ...details } = error.details ?? {};
    return {
      code: error.code,
      message: error.message,
      retryable: error.retryable,
      hint: error.hint,
      ...(Object.keys(details).length > 0 ? { details } : {}),
      ...(typeof requestId === "string" ? { requestId } : {}),
      exitCode: error.code === "DAEMON_UNREACHABLE" ? EXIT.unreachable : EXIT.failed,
    };
  }
  return {
    code: "INTERNAL",
    message: error instanceof Error ? error.message : String(error),
    retryable: false,
    hint: hintOfSystemError(error),
    exitCode: EXIT.failed,
  };
}

function hintOfSystemError(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  if (code === "ENOENT") return "Check that the path exists on this machine.";
  if (code === "EACCES" || code === "EPERM") return "Check who owns the path, or act as its owner.";
  if (code === "ENOSPC") return "Free some space on this machine's disk.";
  return "This may be a bug in Belljar; run with BELLJAR_DEBUG_STACK=1 for more.";
}
