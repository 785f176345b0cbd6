import { BelljarError } from "@belljar/protocol";
import { pino } from "pino";

/** Fields of one log line: ids, counts, durations. Never secrets: redaction here is the net, not the plan. */
export type LogFields = Record<string, unknown>;

export interface Logger {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  child(fields: LogFields): Logger;
}

export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

const REDACTED = [
  "token",
  "*.token",
  "authorization",
  "*.authorization",
  "cookie",
  "*.cookie",
  "secret",
  "*.secret",
];

/** JSON lines on the given descriptor (1 is stdout). */
export function createLogger(options: { level: LogLevel; destination?: string | number }): Logger {
  const destination = pino.destination({ dest: options.destination ?? 1, sync: false });
  return adapt(
    pino(
      {
        level: options.level,
        base: null,
        messageKey: "event",
        timestamp: pino.stdTimeFunctions.isoTime,
        redact: { paths: REDACTED, censor: "[redacted]" },
        serializers: { error: describeError },
      },
      destination,
    ),
  );
}

function adapt(target: pino.Logger): Logger {
  return {
    debug: (event, fields) => target.debug(fields ?? {}, event),
    info: (event, fields) => target.info(fields ?? {}, event),
    warn: (event, fields) => target.warn(fields ?? {}, event),
    error: (event, fields) => target.error(fields ?? {}, event),
    child: (fields) => adapt(target.child(fields)),
  };
}

/** What is written of an error: its code for ours, its stack for bugs. */
export function describeError(error: unknown): unknown {
  if (BelljarError.is(error)) {
    return {
      code: error.code,
      message: error.message,
      details: error.details,
      cause: describeError(error.cause),
    };
  }
  if (error instanceof Error) {
    return {
      name: error.name,
      message: error.message,
      stack: error.stack,
      cause: describeError(error.cause),
    };
  }
  return error;
}

/** A logger that writes nothing. */
export function silentLogger(): Logger {
  const logger: Logger = {
    debug() {},
    info() {},
    warn() {},
    error() {},
    child: () => logger,
  };
  return logger;
}
