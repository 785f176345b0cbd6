import { median, percentile } from "./stats.ts";

/** One line of the result, exactly as `--json` prints it. */
export interface RowResult {
  readonly name: string;
  readonly unit: string;
  readonly p50: number;
  readonly p99: number;
  readonly peer: string | null;
  readonly peerP50: number | null;
  /** Ours to the peer's: larger is better for throughput, smaller for everything else */
  readonly ratio: number | null;
}

/** What the row must reach; the text is what the table shows. */
export interface Budget {
  readonly text: string;
  met(row: RowResult): boolean;
}

/** A row with what the table shows beside the figures. */
export interface Row extends RowResult {
  readonly sampleCount: number;
  /** What a reader must know to judge the figure, such as a failure; shown below the table */
  readonly notes: readonly string[];
}

/** Digits that the noise of a shared machine leaves meaningful. */
function rounded(value: number): number {
  if (!Number.isFinite(value)) return value;
  return Number(value.toPrecision(value >= 1000 ? 6 : 4));
}

/** Makes a row from samples, where smaller is better. */
export function row(
  name: string,
  unit: string,
  ours: readonly number[],
  options: {
    peer?: string;
    peerSamples?: readonly number[] | undefined;
    notes?: readonly string[];
  } = {},
): Row {
  const { peer, peerSamples = [], notes = [] } = options;
  const has = peer !== undefined && peerSamples.length > 0;
  const p50 = median(ours);
  const peerP50 = has ? median(peerSamples) : null;
  return {
    name,
    unit,
    p50: rounded(p50),
    p99: rounded(percentile(ours, 99)),
    peer: has ? peer : null,
    peerP50: peerP50 === null ? null : rounded(peerP50),
    ratio: peerP50 === null ? null : rounded(p50 / peerP50),
    sampleCount: ours.length,
    notes,
  };
}

/** Makes a row where larger is better: `p99` is what 99 % of the samples reached, their low end. */
export function throughputRow(...[name, unit, ours, options]: Parameters<typeof row>): Row {
  return { ...row(name, unit, ours, options), p99: rounded(percentile(ours, 1)) };
}

/** The row without what only the table shows. */
export function bare({ name, unit, p50, p99, peer, peerP50, ratio }: Row): RowResult {
  return { name, unit, p50, p99, peer, peerP50, ratio };
}
