import { readdirSync, readFileSync } from "node:fs";
import { startDaemon, stopAndLook } from "../../tests/e2e/support/daemon-process.ts";
import type { Bench, Group } from "../bench.ts";
import { type Row, row } from "../rows.ts";

const SANDBOXES = 10;
const SETTLE_MS = 3_000;
const KIB_PER_MIB = 1024;
/** USER_HZ, which Linux fixes at 100 for what it shows in /proc */
const TICKS_PER_SECOND = 100;

function cpuTicks(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The name in parentheses may hold spaces: fields are counted from behind it.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+([0-9]+)/.exec(status)?.[1] ?? 0) / KIB_PER_MIB;
}

/** The daemon and whatever of its own it started (the warden), never what runs inside sandboxes. */
function family(dataDir: string, daemonPid: number): number[] {
  const others = readdirSync("/proc").filter((name) => {
    if (!/^[0-9]+$/.test(name)) return false;
    try {
      const argv = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return argv.includes("warden") && argv.includes(dataDir);
    } catch {
      return false;
    }
  });
  return [...new Set([daemonPid, ...others.map(Number)])];
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A daemon of its own, so that what the other rows did to the heap of the first does not count. */
async function measureRest(bench: Bench): Promise<Row[]> {
  const windowMs = bench.quick ? 10_000 : 20_000;
  await using daemon = await startDaemon();
  for (let index = 0; index < SANDBOXES; index += 1) await daemon.api.create();
  await pause(SETTLE_MS);
  const pids = family(daemon.dataDir, daemon.pid);
  const total = () => pids.reduce((sum, pid) => sum + cpuTicks(pid), 0);
  const before = total();
  const startedMs = performance.now();
  await pause(windowMs);
  const seconds = (performance.now() - startedMs) / 1000;
  const percent = ((total() - before) / TICKS_PER_SECOND / seconds) * 100;
  const mib = pids.reduce((sum, pid) => sum + residentMib(pid), 0);
  await stopAndLook(daemon);
  return [row("daemon-at-rest", "MiB", [mib]), row("daemon-at-rest-cpu", "%", [percent])];
}

export const restGroup: Group = {
  rows: ["daemon-at-rest", "daemon-at-rest-cpu"],
  run: measureRest,
};
