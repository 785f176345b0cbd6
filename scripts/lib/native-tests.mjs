/** The C side of a test run: the sanitizer builds that TypeScript tests drive, and `make test` where there is one. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, findProgram } from "./paths.mjs";
import { run } from "./run.mjs";

const DIRECTORIES = ["native/guest", "native/warden"];
const TARGETS = ["analyze", "asan", "test-tools", "test"];

/** Runs every such target; resolves to `{passed, failed}`. */
export async function runNativeTests(say) {
  const counts = { passed: 0, failed: 0 };
  for (const directory of DIRECTORIES) {
    for (const target of targetsOf(directory)) {
      const make = findProgram("make") ?? "make";
      const { code, output } = await run(make, ["-C", join(ROOT, directory), target]);
      counts[code === 0 ? "passed" : "failed"] += 1;
      if (code !== 0) say(output.trimEnd());
      say(`${code === 0 ? "ok" : "FAILED"}  ${directory}: make ${target}`);
    }
  }
  return counts;
}

function targetsOf(directory) {
  const makefile = join(ROOT, directory, "Makefile");
  if (!existsSync(makefile)) return [];
  const text = readFileSync(makefile, "utf8");
  return TARGETS.filter((target) => new RegExp(`^${target}\\s*:`, "mu").test(text));
}
