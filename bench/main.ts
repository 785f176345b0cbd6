/** `npm run bench`: measures the budgets beside their peers. The method is in bench/README.md. */
import { cpus, totalmem } from "node:os";
import { startDaemon, stopAndLook } from "../tests/e2e/support/daemon-process.ts";
import { type Options, parseOptions, USAGE } from "./arguments.ts";
import { type Bench, type Group, makeBench } from "./bench.ts";
import { bare, type Row } from "./rows.ts";
import { table, verdict } from "./report.ts";
import { burstGroup, createGroup } from "./rows/create.ts";
import { crowdGroup } from "./rows/crowd.ts";
import { execGroup, filesGroup } from "./rows/operations.ts";
import { latencyGroup, throughputGroup } from "./rows/preview.ts";
import { restGroup } from "./rows/rest.ts";
import { frozenGroup, stoppedGroup } from "./rows/wake.ts";

const GROUPS: readonly Group[] = [
  createGroup,
  burstGroup,
  execGroup,
  filesGroup,
  frozenGroup,
  stoppedGroup,
  throughputGroup,
  latencyGroup,
  crowdGroup,
  restGroup,
];

const say = (line: string) => void process.stderr.write(`${line}\n`);

async function measure(
  bench: Bench,
  groups: readonly Group[],
): Promise<{ rows: Row[]; failed: string[] }> {
  const rows: Row[] = [];
  const failed: string[] = [];
  for (const group of groups) {
    const startedMs = performance.now();
    try {
      rows.push(...(await group.run(bench)));
    } catch (error) {
      failed.push(...group.rows);
      say(
        `${group.rows[0]} could not be measured: ${error instanceof Error ? error.stack : String(error)}`,
      );
    }
    const seconds = (performance.now() - startedMs) / 1000;
    say(`${group.rows.join(", ")}: ${seconds.toFixed(1)} s`);
  }
  return { rows, failed };
}

async function bench(options: Options): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const interrupt = () => void stack.disposeAsync().then(() => process.exit(130));
  process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
  const wanted = GROUPS.filter(
    (group) => options.rows.length === 0 || group.rows.some((name) => options.rows.includes(name)),
  );
  const daemon = stack.use(await startDaemon({ args: DAEMON_ARGS }));
  const context = makeBench(daemon, stack, { quick: options.quick, say });
  const measured = await measure(context, wanted);
  const isShown = (name: string) => options.rows.length === 0 || options.rows.includes(name);
  const rows = measured.rows.filter(({ name }) => isShown(name));
  const failed = measured.failed.filter(isShown);
  const left = await stopAndLook(daemon);
  const leftLines = Object.values(left).flat();
  if (leftLines.length > 0) say(`left behind: ${leftLines.slice(0, 5).join("; ")}`);
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  say(`${machine}, Node ${process.version}${options.quick ? ", --quick" : ""}\n`);
  const shown = options.json ? JSON.stringify(rows.map(bare), null, 2) : table(rows);
  process.stdout.write(`${shown}\n`);
  const missed = rows.filter((row) => verdict(row) === false).map((row) => row.name);
  if (missed.length > 0) say(`over budget: ${missed.join(", ")}`);
  return failed.length > 0 || (options.strict && missed.length > 0) ? 1 : 0;
}

/** The crowd rows hold 1,000 idle sandboxes, which reservations of 64 MiB each would refuse. */
const DAEMON_ARGS = ["--memory.expectedBytes", String(2 ** 20)];

try {
  const options = parseOptions(
    process.argv.slice(2),
    GROUPS.flatMap((group) => group.rows),
  );
  if (options.help) process.stdout.write(USAGE);
  else process.exitCode = await bench(options);
} catch (error) {
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
}
