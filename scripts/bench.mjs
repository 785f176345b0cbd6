/** `npm run bench [-- --json]`: measures Belljar beside its peers; see bench/. */
import { runCommand } from "./lib/node-floor.mjs";

void runCommand(async () => {
  const { programCommand } = await import("./lib/program-command.mjs");
  return programCommand("bench/main.ts", { purpose: "bench" });
});
