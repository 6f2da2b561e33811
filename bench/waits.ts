/**
 * Runs that wait: from the call that completes a token to the next line of the task's code, with the guest still there (hot)
 * and with the guest saved and gone (parked); what saving and restoring take; how many a worker parks per second.
 *
 * Latencies are taken as in runs.ts: the task's `Date.now()` against the caller's, on one machine with one clock. Figures of
 * saving and restoring are those the worker writes into the run's events. Caller, control plane, PostgreSQL, worker and guests
 * share the machine, and checkpoints go to a folder on its disk.
 * Not measured: a network between them, an object store, workspaces with files, restoring on another worker.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type BenchOptions, latencyRow, percentile, type Row, rateRow } from "./measure.ts";
import { type BenchStack, startBenchStack } from "./stack.ts";
import { type RunEvent, WaitingRun } from "./waiting-run.ts";

const unmeasured = "not: a network, an object store, workspaces with files";
/** The dev stack's own window, as users have it. */
const usualWindowMs = 5_000;
/** So that parking begins soon after each wait. */
const shortWindowMs = 100;
/** A wait that was only just created is still on its way to the worker's poll. */
const settleMs = 150;

export async function benchHotWaits({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 2, parkAfterMs: usualWindowMs });
  const waits = quick ? 20 : 100;
  const warmUp = 5;
  const run = await WaitingRun.start(bench, waits + warmUp, 0);
  for (let n = 0; n < waits + warmUp; n += 1) {
    await run.untilWaiting();
    await sleep(settleMs);
    await run.completeNext();
  }
  const figures = (await run.latencies()).slice(warmUp);
  const note = `completing a token over HTTP to the next line of task code, guest still there; ${unmeasured}`;
  return [latencyRow("wait.hot", figures, note), await parksPerSecond(bench, quick)];
}

/**
 * Runs whose hot windows end at the same moment: all are given their first token at once, and park in their second wait.
 * The time is that from the end of the first one's window to the last checkpoint that is recorded.
 */
async function parksPerSecond(bench: BenchStack, quick: boolean): Promise<Row> {
  const together = quick ? 4 : 6;
  const rates: number[] = [];
  for (let round = 0; round < (quick ? 1 : 3); round += 1) {
    const runs: WaitingRun[] = [];
    for (let n = 0; n < together; n += 1) runs.push(await WaitingRun.start(bench, 2, 0));
    await Promise.all(runs.map((run) => run.untilWaiting()));
    await Promise.all(runs.map((run) => run.completeNext()));
    await Promise.all(runs.map((run) => run.untilParked()));
    const events = await Promise.all(runs.map((run) => run.events()));
    const begun = events.map((each) => lastAt(each, "run_wait.created") + usualWindowMs);
    const parked = events.map((each) => lastAt(each, "run.parked"));
    rates.push(together / ((Math.max(...parked) - Math.min(...begun)) / 1000));
    await Promise.all(runs.map((run) => run.completeNext()));
    await Promise.all(runs.map((run) => run.latencies()));
  }
  const note = `${together} small runs of one worker whose windows end together, end of window to recorded; ${unmeasured}`;
  return rateRow("park.per_worker", rates, note);
}

function lastAt(events: readonly RunEvent[], kind: string): number {
  const event = events.findLast((each) => each.kind === kind);
  if (event === undefined) throw new Error(`the run has no event ${kind}`);
  return Date.parse(event.at);
}

export async function benchParkedWaits({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 2, parkAfterMs: shortWindowMs });
  return [
    ...(await parkAndResume(bench, "small", 0, quick ? 6 : 20)),
    ...(await parkAndResume(bench, "200mib", 200, quick ? 3 : 8)),
  ];
}

async function parkAndResume(
  bench: BenchStack,
  size: "small" | "200mib",
  holdMib: number,
  waits: number,
): Promise<Row[]> {
  const warmUp = 2;
  const run = await WaitingRun.start(bench, waits + warmUp, holdMib);
  for (let n = 0; n < waits + warmUp; n += 1) {
    await run.untilParked();
    await sleep(settleMs);
    await run.completeNext();
  }
  const figures = (await run.latencies()).slice(warmUp);
  const events = await run.events();
  const parked = events.filter(({ kind }) => kind === "run.parked").slice(warmUp);
  // The first start is the run's own, each later one a restore.
  const restored = events.filter(({ kind }) => kind === "run_lease.started").slice(1 + warmUp);
  const timings = (name: string) =>
    parked.map(({ attributes }) => (attributes.timings_ms as Record<string, number>)[name] ?? Number.NaN);
  const median = (name: string) => Math.round(percentile(timings(name), 0.5));
  const bytes = percentile(
    parked.map(({ attributes }) => attributes.size_bytes as number),
    0.5,
  );
  const holds = holdMib === 0 ? "a small task" : `a task that holds ${holdMib} MiB of random bytes`;
  return [
    latencyRow(
      size === "small" ? "wait.parked" : `wait.parked.${size}`,
      figures,
      `completing a token over HTTP to the next line of task code, guest of ${holds} saved and gone; ${unmeasured}`,
    ),
    {
      ...latencyRow(
        `checkpoint.${size}`,
        timings("stopped"),
        `guest of ${holds} stopped to checkpoint stored (saving ${median("save")} ms, sealing and storing ${median("store")} ms); bytes of the archive; ${unmeasured}`,
      ),
      bytes,
    },
    {
      ...latencyRow(
        `restore.${size}`,
        restored.map(({ attributes }) => attributes.start_ms as number),
        `lease in hand to the first reply of the task, ${holds}; bytes of the archive; ${unmeasured}`,
      ),
      bytes,
    },
  ];
}
