/**
 * `npm run soak [-- --minutes N --seed S --calm]`: creates, commands, files, previews, rests and ends at random
 * on the real daemon, whose parts are killed now and then. At the end everything acknowledged must be
 * there, nothing else may run, and nothing may be left. `--calm` kills nothing, so that the daemon's
 * memory can be watched over the whole time.
 */
import { readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import {
  type DaemonProcess,
  settledLeftovers,
  startDaemon,
  stopAndLook,
} from "../e2e/support/daemon-process.ts";
import { guestPids } from "../e2e/support/guests.ts";
import { allPids } from "../e2e/support/leftovers.ts";
import { temporaryDirectory, until } from "../e2e/support/machine.ts";
import { Findings, Model } from "./model.ts";
import { checkFiles, step, type World } from "./operations.ts";
import { randomFrom } from "./random.ts";

const WORKERS = 6;
const KILL_EVERY_MS = 20_000;
const REPORT_EVERY_MS = 30_000;
const CONVERGE_TIMEOUT_MS = 90_000;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "30" },
    seed: { type: "string", default: String(process.pid) },
    calm: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const minutes = Number(values.minutes);
if (!Number.isFinite(minutes) || minutes <= 0)
  throw new Error(`--minutes ${values.minutes} is no time`);

const random = randomFrom(Number(values.seed));
const model = new Model();
const findings = new Findings();
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function wardenPid(dataDir: string): number | undefined {
  return allPids().find((pid) => {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      return (
        (argv[0] ?? "").endsWith("warden") && argv.some((argument) => argument.startsWith(dataDir))
      );
    } catch {
      return false;
    }
  });
}

function residentMib(pid: number): number {
  return (
    Number(/VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024
  );
}

/** Kills one part, and starts the daemon again where that was it. */
async function disturb(dataDir: string, current: DaemonProcess): Promise<DaemonProcess> {
  const what = random.pick(["daemon", "warden", "guest", "guest"] as const) ?? "guest";
  const pid = what === "warden" ? wardenPid(dataDir) : random.pick(guestPids(dataDir));
  model.count(`kill ${what}`, true);
  if (what !== "daemon") {
    if (pid !== undefined) process.kill(pid, "SIGKILL");
    return current;
  }
  await current.kill();
  const { token, port } = current;
  current.api[Symbol.dispose]();
  return startDaemon({ dataDir, token, port });
}

/** After the last operation: rows, processes and files agree with what was acknowledged. */
async function expectConverged(world: World): Promise<void> {
  const { api, dataDir } = world.daemon;
  await until(
    "no row is on its way",
    async () => (await api.list()).every(({ state }) => state !== "creating"),
    {
      timeoutMs: CONVERGE_TIMEOUT_MS,
    },
  );
  const rows = await api.list();
  const known = new Set(rows.map(({ id }) => id));
  for (const { id, isDestroying } of model.sandboxes.values()) {
    if (!known.has(id) && !isDestroying) findings.add(`${id}: an acknowledged sandbox is gone`);
  }
  await until(
    "as many guests run as rows say",
    async () =>
      (await api.list()).filter(({ state }) => state === "running" || state === "frozen").length ===
      guestPids(dataDir).length,
    { timeoutMs: CONVERGE_TIMEOUT_MS, stepMs: 250 },
  ).catch((error: unknown) => findings.add(String(error)));
  for (const sandbox of model.sandboxes.values()) {
    if (!known.has(sandbox.id)) continue;
    await checkFiles(world, sandbox).catch((error: unknown) =>
      findings.add(`${sandbox.id} at the end: ${String(error)}`),
    );
  }
}

function summary(daemon: DaemonProcess): string {
  const counts = [...model.counts].map(
    ([name, { done, failed }]) => `${name} ${done}${failed > 0 ? `+${failed} refused` : ""}`,
  );
  const descriptors = readdirSync(`/proc/${daemon.pid}/fd`).length;
  return `${model.sandboxes.size} sandboxes, daemon ${residentMib(daemon.pid).toFixed(0)} MiB, ${descriptors} descriptors: ${counts.join(", ")}`;
}

using directory = temporaryDirectory("soak");
const state = { daemon: await startDaemon({ dataDir: directory.path }), kills: 0, isOver: false };
const world: World = {
  get daemon() {
    return state.daemon;
  },
  disturbances: () => state.kills,
  model,
  findings,
  random,
};
const endMs = performance.now() + minutes * 60_000;
process.once("SIGINT", () => (state.isOver = true)).once("SIGTERM", () => (state.isOver = true));
const isOver = () => state.isOver || performance.now() > endMs;
process.stderr.write(`soak: ${minutes} minutes, seed ${values.seed}\n`);

const workers = Array.from({ length: WORKERS }, async () => {
  while (!isOver()) await step(world);
});
const killer = (async () => {
  let waitedMs = 0;
  while (!isOver() && !values.calm) {
    await pause(500);
    waitedMs += 500;
    if (waitedMs < KILL_EVERY_MS) continue;
    waitedMs = 0;
    state.kills += 1;
    state.daemon = await disturb(directory.path, state.daemon);
    state.kills += 1;
  }
})();
const reporter = setInterval(
  () => process.stderr.write(`soak: ${summary(state.daemon)}\n`),
  REPORT_EVERY_MS,
);
await Promise.all([...workers, killer]);
clearInterval(reporter);
await expectConverged(world).catch((error: unknown) => findings.add(String(error)));
process.stderr.write(`soak: ${summary(state.daemon)}\n`);
const ids = [...model.sandboxes.keys()];
await stopAndLook(state.daemon);
const left = Object.values(await settledLeftovers(directory.path, ids)).flat();
for (const line of left) findings.add(`left behind: ${line}`);
await state.daemon[Symbol.asyncDispose]();
const result = {
  seed: Number(values.seed),
  minutes,
  operations: Object.fromEntries(model.counts),
  findings: findings.lines,
};
process.stdout.write(
  values.json
    ? `${JSON.stringify(result, null, 2)}\n`
    : `${findings.lines.length} findings\n${findings.lines.join("\n")}\n`,
);
process.exitCode = findings.lines.length === 0 ? 0 : 1;
