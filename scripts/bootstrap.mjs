/**
 * `node scripts/bootstrap.mjs [--for tests|bench] [--build-only] [--quiet] [--json]`: sets this tree
 * up. It runs before anything is installed, so it and scripts/lib use Node's own modules alone.
 */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(() => import("./lib/bootstrap-command.mjs"));
