/** A script that sets the tree up and then hands over to a TypeScript program on Node 24. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, insidePath, projectNode } from "./paths.mjs";
import { endOnSignals, run } from "./run.mjs";
import { setUpOrExplain } from "./setup-report.mjs";

/** The command that runs the program at `path` with the script's arguments and takes over its status. */
export function programCommand(path, { purpose } = {}) {
  return {
    async main(args) {
      if (!existsSync(join(ROOT, path))) {
        process.stderr.write(`belljar: ${path} is not in this tree\n`);
        process.exitCode = 1;
        return;
      }
      endOnSignals();
      if (!(await setUpOrExplain({ purpose }))) {
        process.exitCode = 1;
        return;
      }
      const env = { PATH: insidePath() };
      const { code } = await run(projectNode(), [join(ROOT, path), ...args], {
        env,
        inherit: true,
      });
      process.exitCode = code;
    },
  };
}
