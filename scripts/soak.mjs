/** `npm run soak`: runs a daemon under changing load for a long time; see tests/soak/. */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(async () => {
  const { programCommand } = await import("./lib/program-command.mjs");
  return programCommand("tests/soak/main.ts");
});
