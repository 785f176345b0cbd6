import type { Bench, Group } from "../bench.ts";
import { type Row, row } from "../rows.ts";
import { interleave, median } from "../stats.ts";
import { appCommand, createAppSandbox, firstByte } from "./app.ts";

async function frozenOnce(bench: Bench, id: string): Promise<number> {
  const frozen = await bench.daemon.api.move(id, "freeze");
  if (frozen.state !== "frozen") throw new Error(`freeze left the sandbox ${frozen.state}`);
  return firstByte(bench, id);
}

async function measureFrozen(bench: Bench): Promise<Row[]> {
  const { id } = await createAppSandbox(bench);
  const lane = { name: "ours", every: 1, sample: () => frozenOnce(bench, id) };
  const samples = await interleave([lane], { rounds: bench.quick ? 50 : 200, warmupRounds: 10 });
  await bench.daemon.api.destroy(id);
  return [row("wake-frozen", "ms", samples.get("ours") ?? [])];
}

/**
 * The app's own start, inside a running sandbox: nginx that goes into the background returns when
 * its port listens. What an empty command costs on the same path is taken off.
 */
async function appStart(bench: Bench, id: string): Promise<number> {
  const { api } = bench.daemon;
  const shell = (command: string[]) => ["/bin/sh", "-c", '"$@"', "sh", ...command];
  const empty: number[] = [];
  const starts: number[] = [];
  for (let round = 0; round < 10; round += 1) {
    empty.push((await api.exec(id, shell(["true"]))).durationMs);
    const started = await api.exec(id, shell(appCommand("second")));
    if (started.exitCode !== 0) throw new Error(`the app does not start: ${started.stderr}`);
    starts.push(started.durationMs);
    await api.exec(id, [...appCommand("second"), "-s", "quit"]);
    await waitGone(bench, id);
  }
  return Math.max(0, median(starts) - median(empty));
}

async function waitGone({ daemon }: Bench, id: string): Promise<void> {
  const gone = "for i in $(seq 200); do [ -e nginx.pid ] || exit 0; sleep 0.01; done; exit 1";
  await daemon.api.exec(id, gone, { cwd: "/home/user/nginx" });
}

async function stoppedOnce(bench: Bench, id: string): Promise<number> {
  const stopped = await bench.daemon.api.move(id, "stop");
  if (stopped.state !== "stopped") throw new Error(`stop left the sandbox ${stopped.state}`);
  return firstByte(bench, id);
}

async function measureStopped(bench: Bench): Promise<Row[]> {
  const { id } = await createAppSandbox(bench);
  const startMs = await appStart(bench, id);
  const lane = { name: "ours", every: 1, sample: () => stoppedOnce(bench, id) };
  const samples = await interleave([lane], { rounds: bench.quick ? 10 : 40, warmupRounds: 2 });
  await bench.daemon.api.destroy(id);
  const ours = (samples.get("ours") ?? []).map((sample) => Math.max(0, sample - startMs));
  const notes = [`the app's own start, taken off: ${startMs.toFixed(2)} ms`];
  return [row("wake-stopped", "ms", ours, { notes })];
}

export const frozenGroup: Group = { rows: ["wake-frozen"], run: measureFrozen };
export const stoppedGroup: Group = { rows: ["wake-stopped"], run: measureStopped };
