/** `npm run check [-- name …]`: the checks, or the named ones; status 1 if one fails. */
import { CHECKS, runChecks } from "./checks.mjs";
import { endOnSignals } from "./run.mjs";
import { setUpOrExplain } from "./setup-report.mjs";

export async function main(args) {
  const unknown = args.filter((name) => !Object.hasOwn(CHECKS, name));
  if (unknown.length > 0) {
    process.stderr.write(
      `belljar: no check ${unknown.join(", ")}; there are: ${Object.keys(CHECKS).join(", ")}\n`,
    );
    process.exitCode = 2;
    return;
  }
  endOnSignals();
  if (!(await setUpOrExplain({}))) {
    process.exitCode = 1;
    return;
  }
  const names = args.length === 0 ? Object.keys(CHECKS) : args;
  const { failed } = await runChecks(names, (line) => process.stdout.write(`${line}\n`));
  process.exitCode = failed === 0 ? 0 : 1;
}
