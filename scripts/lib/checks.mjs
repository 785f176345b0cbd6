/** The checks of `npm run check`, each one program whose status is the verdict. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, insidePath, projectNode } from "./paths.mjs";
import { run } from "./run.mjs";
import { filesBelow } from "./stamp.mjs";

const MODULES = join(ROOT, "node_modules");

/** Names in the order they run; `tidy` is apart because the test run has it too. */
export const CHECKS = {
  lint: () => [
    projectNode(),
    join(MODULES, "oxlint/bin/oxlint"),
    "--type-aware",
    "--deny-warnings",
  ],
  format: () => [projectNode(), join(MODULES, "oxfmt/bin/oxfmt"), "--check"],
  types: () => [projectNode(), join(MODULES, "typescript/bin/tsc"), "-b", ...projectsWithSources()],
  generated: () => scriptIfThere("scripts/generate.mjs", "--check"),
  tidy: () => [projectNode(), join(MODULES, "vitest/vitest.mjs"), "run", "--project", "tidy"],
};

/** tsc refuses a project without a source, and a project may come before its first file. */
function projectsWithSources() {
  const { references } = JSON.parse(readFileSync(join(ROOT, "tsconfig.json"), "utf8"));
  return references
    .map((reference) => reference.path)
    .filter((path) => filesBelow(join(ROOT, path), (file) => file.endsWith(".ts")).length > 0);
}

function scriptIfThere(path, ...args) {
  return existsSync(join(ROOT, path)) ? [projectNode(), join(ROOT, path), ...args] : undefined;
}

/**
 * Runs the named checks one after the other, each one's output shown only when it failed. Resolves
 * to `{passed, failed}`, the counts.
 */
export async function runChecks(names, say) {
  const counts = { passed: 0, failed: 0 };
  for (const name of names) {
    const command = CHECKS[name]();
    if (command === undefined) {
      say(`-  ${name}: nothing to run yet`);
      continue;
    }
    const startedMs = performance.now();
    const [program, ...args] = command;
    const { code, output } = await run(program, args, { env: { PATH: insidePath() } });
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    counts[code === 0 ? "passed" : "failed"] += 1;
    if (code !== 0) say(output.trimEnd());
    say(`${code === 0 ? "ok" : "FAILED"}  ${name} (${seconds} s)`);
  }
  return counts;
}
