import type { ErrorCode } from "@belljar/protocol";
import { BelljarError, ERRORS } from "@belljar/protocol";

const LAST_WORDS = /^belljard: ([A-Z_]+): ([^]*)$/m;

/** The failure that a daemon has named on its way out: one line with its code, and the hint after it. */
export function errorSaidIn(text: string): BelljarError | undefined {
  const [, code = "", rest = ""] = LAST_WORDS.exec(text) ?? [];
  if (!Object.hasOwn(ERRORS, code)) return undefined;
  // Present in the table, so it is one of its codes.
  const known = code as ErrorCode;
  const message = rest.trimEnd().replace(ERRORS[known].hint, "").trimEnd();
  return new BelljarError(known, message);
}
