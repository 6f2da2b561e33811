/**
 * Runs in guests: call of the API to the first line of the task's code, and whole lifecycles per second.
 *
 * Caller, control plane, PostgreSQL, worker and guests share this machine. Guest and host share a clock, so the task's
 * `Date.now()` is compared with the caller's: resolution 1 ms.
 * Not measured: network between caller, control plane and worker; images that are not on the worker yet.
 */
import type { HelmrClient } from "@helmr/sdk";
import { type BenchOptions, latencyRow, type Row, rateRow, sample, timed } from "./measure.ts";
import { startBenchStack } from "./stack.ts";

const unmeasured = "not: a network between caller and worker, images not on the worker, large projects";

/** Milliseconds from the call of `sessions.start` to the first line of the task. */
async function toFirstLine(client: HelmrClient): Promise<number> {
  const from = Date.now();
  const started = await client.sessions.start("first-line", {});
  const run = await client.runs.wait(started.run.id, { timeoutMs: 60_000 });
  if (run.status !== "succeeded") throw new Error(`run ended ${run.status}`);
  return (run.output as { at_ms: number }).at_ms - from;
}

/** Long enough for the pool to have refilled: a pooled start is what a caller sees who does not exceed the pool. */
const refillMs = 1_500;

export async function benchPooledStart({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 2 });
  const figures = await sample(
    async () => {
      await new Promise((resolve) => setTimeout(resolve, refillMs));
      return toFirstLine(bench.client);
    },
    quick ? 8 : 40,
    3,
  );
  return [
    latencyRow(
      "start.pooled",
      figures,
      `API call to first line of task code, guest from the pool; ${unmeasured}`,
    ),
  ];
}

export async function benchColdStart({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 0 });
  const figures = await sample(() => toFirstLine(bench.client), quick ? 5 : 25, 2);
  return [
    latencyRow(
      "start.cold",
      figures,
      `API call to first line of task code, guest booted for it; ${unmeasured}`,
    ),
  ];
}

export async function benchLifecycle({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 2 });
  const batch = quick ? 8 : 24;
  const rates = await sample(
    async () => {
      const ms = await timed(() =>
        Promise.all(Array.from({ length: batch }, () => toFirstLine(bench.client))),
      );
      return batch / (ms / 1000);
    },
    quick ? 2 : 5,
    1,
  );
  return [
    rateRow(
      "lifecycle",
      rates,
      `whole runs in guests, ${batch} started at once, 2 guests pooled; not: many workers, tasks that work`,
    ),
  ];
}
