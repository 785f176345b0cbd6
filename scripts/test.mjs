/** `npm test [-- vitest arguments]`: everything this repository tests; the last line counts it. */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(() => import("./lib/test-command.mjs"));
