import { BelljarError } from "@belljar/protocol";
import type { Clock } from "../kernel/index.ts";
import type { LogFields, Logger } from "./logger.ts";

/**
 * Runs one operation and writes its one canonical line: event, outcome, duration, ids, error code.
 * `noteFields` lets the work add what it only learns on the way.
 */
export async function operation<Result>(
  context: { logger: Logger; clock: Clock; event: string; fields: LogFields },
  work: (noteFields: (fields: LogFields) => void) => Promise<Result>,
): Promise<Result> {
  const { logger, clock, event } = context;
  const fields: LogFields = { ...context.fields };
  const startedMs = clock.monotonic();
  const duration = () => Math.round((clock.monotonic() - startedMs) * 100) / 100;
  try {
    const result = await work((more) => Object.assign(fields, more));
    logger.info(event, { outcome: "ok", durationMs: duration(), ...fields });
    return result;
  } catch (error) {
    const line = { outcome: "failed", durationMs: duration(), ...fields, error };
    if (BelljarError.is(error) && error.status < 500) {
      logger.info(event, { ...line, errorCode: error.code });
    } else {
      logger.error(event, { ...line, errorCode: BelljarError.is(error) ? error.code : "INTERNAL" });
    }
    throw error;
  }
}
