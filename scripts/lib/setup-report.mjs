/** The set-up as other scripts use it: progress on stderr, failures explained there. */
import { SetupError } from "./run.mjs";
import { setUp } from "./setup.mjs";

/** One line of progress for people. */
export function reportLine(line) {
  process.stderr.write(`belljar set-up: ${line}\n`);
}

/** Sets the tree up. True when it is; false after saying on stderr why it is not. */
export async function setUpOrExplain(options) {
  try {
    await setUp({ report: reportLine, ...options });
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    reportLine([error.message, ...error.lines].join("\n  "));
    return false;
  }
}
