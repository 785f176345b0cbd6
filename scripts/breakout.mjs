/** `npm run breakout`: runs the attack suite inside a sandbox; see tests/breakout/. */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(async () => {
  const { programCommand } = await import("./lib/program-command.mjs");
  return programCommand("tests/breakout/main.ts");
});
