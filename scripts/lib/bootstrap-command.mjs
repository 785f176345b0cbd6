/** Arguments, progress lines and exit status of scripts/bootstrap.mjs. */
import { parseArgs } from "node:util";
import { endOnSignals, SetupError } from "./run.mjs";
import { reportLine } from "./setup-report.mjs";
import { PURPOSES, setUp } from "./setup.mjs";

const USAGE = `usage: node scripts/bootstrap.mjs [--for ${PURPOSES.join("|")}] [--build-only] [--quiet] [--json]`;

/** Sets process.exitCode: 0 set up, 1 failed, 2 usage. Progress goes to stderr, `--json` to stdout. */
export async function main(args) {
  const options = parseOptions(args);
  if (options === undefined) return;
  endOnSignals();
  const report = options.quiet ? () => {} : reportLine;
  const startedMs = performance.now();
  const outcome = await attempt({
    purpose: options.for,
    isBuildOnly: options["build-only"],
    report,
  });
  const durationMs = Math.round(performance.now() - startedMs);
  if (options.json) process.stdout.write(`${JSON.stringify({ ...outcome, durationMs })}\n`);
  if (outcome.ok) return;
  process.exitCode = 1;
  reportLine([outcome.error, ...outcome.lines].join("\n  "));
}

function parseOptions(args) {
  try {
    const { values } = parseArgs({
      args,
      options: {
        for: { type: "string" },
        "build-only": { type: "boolean", default: false },
        quiet: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
      },
    });
    if (values.for === undefined || PURPOSES.includes(values.for)) return values;
    reportLine(`--for ${values.for} is unknown\n${USAGE}`);
  } catch (error) {
    reportLine(`${error.message}\n${USAGE}`);
  }
  process.exitCode = 2;
  return undefined;
}

async function attempt(options) {
  try {
    return { ok: true, steps: await setUp(options) };
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    return { ok: false, steps: [], error: error.message, lines: error.lines };
  }
}
