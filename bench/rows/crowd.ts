import { readFileSync } from "node:fs";
import { type Child, startChild } from "../../tests/e2e/support/child.ts";
import type { Bench, Group } from "../bench.ts";
import { bwrapCommand } from "../peers/bwrap.ts";
import { type Row, row } from "../rows.ts";
import { median } from "../stats.ts";

const KIB_PER_MIB = 1024;
const PARALLEL = 16;
const FEW = 10;
/** Sandboxes present at each reading of the memory; the last is what the row is about */
const STEPS = [0, 50, 100, 150, 200] as const;
const MANY = 1000;
const SETTLE_MS = 500;
const MEMORY_READINGS = 10;
const MEMORY_READING_EVERY_MS = 100;

/** MemAvailable in MiB: the median of a second's readings, since other programs breathe too. */
async function availableMib(): Promise<number> {
  const readings: number[] = [];
  for (let index = 0; index < MEMORY_READINGS; index += 1) {
    const text = readFileSync("/proc/meminfo", "utf8");
    readings.push(Number(/MemAvailable:\s+([0-9]+)/.exec(text)?.[1]) / KIB_PER_MIB);
    await new Promise((resolve) => setTimeout(resolve, MEMORY_READING_EVERY_MS));
  }
  return median(readings);
}

/** Runs `work` for 0 … count-1, a few at a time. */
async function inParallel(count: number, work: (index: number) => Promise<void>): Promise<void> {
  const next = { index: 0 };
  const worker = async () => {
    while (next.index < count) {
      const { index } = next;
      next.index += 1;
      await work(index);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}

async function createSamples({ daemon, quick }: Bench): Promise<number[]> {
  const samples: number[] = [];
  for (let index = 0; index < (quick ? 30 : 100); index += 1) {
    const startedMs = performance.now();
    const { id } = await daemon.api.create();
    samples.push(performance.now() - startedMs);
    await daemon.api.destroy(id);
  }
  return samples;
}

/**
 * MiB that each one takes, from readings at {@link STEPS}: the slope between every two of them. Their
 * median is not moved by one program elsewhere that starts or ends meanwhile, as one difference is.
 */
async function slopes(growTo: (count: number) => Promise<void>): Promise<number[]> {
  const readings: { count: number; mib: number }[] = [];
  for (const count of STEPS) {
    await growTo(count);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    readings.push({ count, mib: await availableMib() });
  }
  return readings.flatMap((from, index) =>
    readings.slice(index + 1).map((to) => (from.mib - to.mib) / (to.count - from.count)),
  );
}

/** The same of bubblewrap with a sleeping program. */
async function bwrapMemory(): Promise<number[]> {
  const argv = bwrapCommand(["sleep", "86400"]);
  if (argv === undefined) return [];
  await using stack = new AsyncDisposableStack();
  const children: Child[] = [];
  return await slopes((count) =>
    inParallel(count - children.length, async () => {
      children.push(stack.use(await startChild(argv, { stdio: "ignore" })));
    }),
  );
}

/** One crowd serves three rows: creates with few present, memory with some, creates with many. */
async function measureCrowd(bench: Bench): Promise<Row[]> {
  const { api } = bench.daemon;
  const ids: string[] = [];
  const grow = (to: number) =>
    inParallel(to - ids.length, async () => {
      ids.push((await api.create()).id);
    });
  const peerMib = await bwrapMemory();
  await createSamples(bench);
  const emptyMib = await availableMib();
  const idleMib = await slopes(grow);
  await inParallel(ids.length - FEW, async () => api.destroy(ids.pop() ?? ""));
  const fewMs = await createSamples(bench);
  const many = bench.quick ? 400 : MANY;
  await grow(many);
  const manyMib = emptyMib - (await availableMib());
  const manyMs = await createSamples(bench);
  await inParallel(ids.length, async (index) => api.destroy(ids[index] ?? ""));
  const few = median(fewMs);
  const notes = [
    `create p50 with ${FEW} present: ${few.toFixed(2)} ms, with ${many}: ${median(manyMs).toFixed(2)} ms`,
  ];
  return [
    row("idle-memory", "MiB", idleMib, { peer: "bwrap sleep", peerSamples: peerMib }),
    row("idle-memory-1000", "MiB", [manyMib], {
      notes: many === MANY ? [] : [`measured with ${many}: --quick`],
    }),
    row(
      "create-at-1000",
      "ratio",
      manyMs.map((sample) => sample / few),
      { notes },
    ),
  ];
}

export const crowdGroup: Group = {
  rows: ["idle-memory", "idle-memory-1000", "create-at-1000"],
  run: measureCrowd,
};
