/**
 * `node scripts/run.mjs bench/simulate/main.ts [--seconds 20] [--seed 1]`: a large installation on paper, by the measured costs.
 *
 * It answers which part is busy first. It does not know: what grows with the tables, vacuum, locks, the network, the object store,
 * and what a worker does itself.
 */
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { percentile } from "../measure.ts";
import { demand, type Installation, type Load, rates, run, stationsOf } from "./installation.ts";
import { parts } from "./measured.ts";

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "20" }, seed: { type: "string", default: "1" } },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed);

const base: Installation = {
  workers: 10_000,
  controlPlanes: 32,
  postgresCores: 32,
  dispatchers: 4,
  busyShare: 0.8,
  heartbeatSeconds: 4.25,
  cells: 1,
};
const load: Load = {
  startsPerSecond: 400,
  firesPerSecond: 50,
  appendsPerRun: 20,
  parkedRuns: 1_000_000,
  meanParkedSeconds: 86_400,
};
const times = (factor: number): Load => ({
  ...load,
  startsPerSecond: load.startsPerSecond * factor,
  firesPerSecond: load.firesPerSecond * factor,
  parkedRuns: load.parkedRuns * factor,
});

const cases: readonly [name: string, installation: Installation, load: Load][] = [
  ["10,000 workers, 1,000,000 parked runs, 450 runs/s", base, load],
  ["four times the runs", base, times(4)],
  ["eight times", base, times(8)],
  ["eight times, a heartbeat every 10 s", { ...base, heartbeatSeconds: 10.25 }, times(8)],
  [
    "eight times, appends gathered to a quarter",
    base,
    { ...times(8), appendsPerRun: load.appendsPerRun / 4 },
  ],
  ["eight times, in 4 cells", { ...base, cells: 4 }, times(8)],
];

const table = new Table({
  head: [
    "",
    ...parts.map((part) => `${part} cores`),
    ...parts.map((part) => `${part} busy`),
    "lease p50",
    "p99",
  ],
  style: { head: [], border: [] },
});
for (const [name, installation, asked] of cases) {
  const needed = demand(rates(installation, asked));
  const { utilization, seconds: took } = run(installation, asked, seconds, seed);
  const leases = took.get("lease") ?? [];
  const ms = (p: number) => `${(percentile(leases, p) * 1000).toFixed(1)} ms`;
  table.push([
    name,
    ...parts.map((part) => (needed.get(part) ?? 0).toFixed(2)),
    ...parts.map((part) => `${Math.round((utilization.get(part) ?? 0) * 100)} %`),
    ms(0.5),
    ms(0.99),
  ]);
}
console.log(
  `${seconds} s simulated, seed ${seed}; servers: ${stationsOf(base)
    .map(({ name, servers }) => `${name} ${servers}`)
    .join(", ")}`,
);
console.log(table.toString());
