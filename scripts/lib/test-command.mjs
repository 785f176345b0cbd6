/**
 * `npm test`: set-up, checks, native tests, vitest. With arguments: set-up, then vitest alone with
 * them. Either way the last line of stdout is `N passed, N failed`.
 */
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { runChecks } from "./checks.mjs";
import { runNativeTests } from "./native-tests.mjs";
import { ROOT, insidePath, projectNode } from "./paths.mjs";
import { endOnSignals, endRunning, run } from "./run.mjs";
import { setUpOrExplain } from "./setup-report.mjs";
import { countResults, summaryLine } from "./test-results.mjs";

const REPORT_PATH = join(ROOT, "build/test-report.json");
const RUN_MINUTES_MAX = 25;

/** One after the other: what measures and crashes whole daemons wants the machine for itself. */
const RUNS = [
  ["--project", "unit", "--project", "tidy"],
  ["--project", "e2e"],
];
const KILL_AFTER_MS = 10_000;

const say = (line) => process.stdout.write(`${line}\n`);

export async function main(args) {
  endOnSignals();
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const add = (more) => {
    for (const key of Object.keys(counts)) counts[key] += more[key] ?? 0;
  };
  if (await setUpOrExplain({ purpose: "tests" })) {
    if (args.length === 0) {
      add(await runChecks(["lint", "format", "types", "generated"], say));
      add(await runNativeTests(say));
    }
    for (const selection of args.length === 0 ? RUNS : [args]) {
      const results = await runVitest(selection);
      add(results);
      results.notes.forEach((note) => say(`FAILED  ${String(note)}`));
    }
  } else {
    counts.failed += 1;
  }
  process.exitCode = counts.failed === 0 ? 0 : 1;
  say(summaryLine(counts));
}

async function runVitest(args) {
  mkdirSync(join(ROOT, "build"), { recursive: true });
  rmSync(REPORT_PATH, { force: true });
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${REPORT_PATH}`];
  const stop = endAfter(RUN_MINUTES_MAX);
  const { code } = await run(projectNode(), [vitest, "run", ...reporters, ...args], {
    env: { PATH: insidePath() },
    inherit: true,
  });
  stop();
  const mayNotSkip = process.env.BELLJAR_MUST_SANDBOX === "1";
  return countResults(REPORT_PATH, { exitCode: code, mayNotSkip });
}

/** A test that hangs past vitest's own timeouts must not hold the run for ever. */
function endAfter(minutes) {
  const timer = setTimeout(() => {
    say(`FAILED  the test run took more than ${minutes} minutes`);
    endRunning("SIGTERM");
    setTimeout(() => endRunning("SIGKILL"), KILL_AFTER_MS).unref();
  }, minutes * 60_000);
  return () => clearTimeout(timer);
}
