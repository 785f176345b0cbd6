/** Arguments, progress lines and exit status of scripts/bootstrap.mjs. */
import { parseArgs } from "node:util";
import { endOnSignals, SetupError } from "./run.mjs";
import { PURPOSES, setUp } from "./setup.mjs";

const USAGE = `usage: node scripts/bootstrap.mjs [--for ${PURPOSES.join("|")}] [--build-only] [--quiet] [--json]`;

/** Sets process.exitCode: 0 set up, 1 failed, 2 usage. Progress goes to stderr, `--json` to stdout. */
export async function main(args) {
  const options = parseOptions(args);
  if (options === undefined) return;
  endOnSignals();
  const report = options.quiet
    ? () => {}
    : (line) => process.stderr.write(`belljar set-up: ${line}\n`);
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
  process.stderr.write(
    `belljar set-up: ${outcome.error}\n${outcome.lines.map((l) => `  ${l}\n`).join("")}`,
  );
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
    process.stderr.write(`belljar set-up: --for ${values.for} is unknown\n${USAGE}\n`);
  } catch (error) {
    process.stderr.write(`belljar set-up: ${error.message}\n${USAGE}\n`);
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
