/** Percentiles by nearest rank: every figure printed was really measured. */
export function percentile(samples: readonly number[], percent: number): number {
  if (samples.length === 0) return Number.NaN;
  const sorted = samples.toSorted((a, b) => a - b);
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  return sorted[rank - 1] ?? Number.NaN;
}

/** The middle sample. */
export function median(samples: readonly number[]): number {
  return percentile(samples, 50);
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** One measured thing of an interleaved run: taken `every`-th round. */
export interface Lane {
  readonly name: string;
  /** Measured in each round whose number this divides; 1 is every round */
  readonly every: number;
  /** Gives one sample; what it does before and after its own clock is not counted */
  sample(): Promise<number>;
}

/**
 * Runs the lanes in turn (A B A B …), so that a machine that slows down slows all of them.
 * The first `warmupRounds` rounds are thrown away.
 */
export async function interleave(
  lanes: readonly Lane[],
  options: { rounds: number; warmupRounds: number },
): Promise<Map<string, number[]>> {
  const samples = new Map(lanes.map((lane) => [lane.name, [] as number[]]));
  const total = options.rounds + options.warmupRounds;
  for (let round = 0; round < total; round += 1) {
    for (const lane of lanes) {
      const counted = round - options.warmupRounds;
      if (counted >= 0 ? counted % lane.every !== 0 : round > 0 && lane.every > 1) continue;
      const value = await lane.sample();
      if (counted >= 0) samples.get(lane.name)?.push(value);
    }
  }
  return samples;
}
