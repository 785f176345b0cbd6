/** `npm run check`: what a machine can hold of the house style: lint, format, types, tidy, generated files. */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(() => import("./lib/check-command.mjs"));
