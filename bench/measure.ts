/** Measuring: warm-up, several runs, median and p95; one row per figure, as a table or as JSON. */

export interface Row {
  readonly name: string;
  readonly p50_ms?: number;
  readonly p95_ms?: number;
  readonly per_second?: number;
  readonly ratio?: number;
  readonly bytes?: number;
  readonly runs: number;
  /** What the figure does not measure, or beside what it stands. */
  readonly note?: string;
}

export interface BenchOptions {
  /** Fewer runs: for a look, not for a claim. */
  readonly quick: boolean;
}

/** The value below which the fraction `p` of `values` lies (nearest rank). */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(p * sorted.length) - 1))];
  if (value === undefined) throw new Error("percentile of no values");
  return value;
}

/** Call `once` `warmUp` times unrecorded, then `runs` times; it answers with its own milliseconds. */
export async function sample(once: () => Promise<number>, runs: number, warmUp: number): Promise<number[]> {
  for (let n = 0; n < warmUp; n += 1) await once();
  const figures: number[] = [];
  for (let n = 0; n < runs; n += 1) figures.push(await once());
  return figures;
}

/** A latency row of recorded milliseconds. */
export function latencyRow(name: string, figures: readonly number[], note?: string): Row {
  return {
    name,
    p50_ms: round(percentile(figures, 0.5)),
    p95_ms: round(percentile(figures, 0.95)),
    runs: figures.length,
    ...(note === undefined ? {} : { note }),
  };
}

/** A rate row: the median of several measured rates per second. */
export function rateRow(name: string, rates: readonly number[], note?: string): Row {
  return {
    name,
    per_second: round(percentile(rates, 0.5)),
    runs: rates.length,
    ...(note === undefined ? {} : { note }),
  };
}

/** Milliseconds that `work` took. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await work();
  return performance.now() - from;
}

const round = (value: number) => Math.round(value * 100) / 100;
