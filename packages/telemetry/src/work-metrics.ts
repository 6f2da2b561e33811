/**
 * What waits in the database, as the dispatcher tells it: one sample of all of it, at most every 15 seconds however many ask.
 *
 * Several dispatchers tell the same figures: take the maximum over them, not the sum.
 */
import type { Gauge } from "prom-client";
import { define } from "./define.ts";
import type { MetricsRegistry } from "./registry.ts";

export interface WorkSample {
  /** What could be leased now, by kind and worker group. */
  readonly queues: readonly {
    readonly kind: "run" | "build" | "materialization";
    readonly workerGroup: string;
    readonly depth: number;
    /** Of the one that waits for the longest. */
    readonly oldestSeconds: number;
  }[];
  readonly runs: { readonly queued: number; readonly running: number; readonly waiting: number };
  readonly parkedRuns: number;
  readonly workers: readonly { readonly state: string; readonly count: number }[];
  readonly schedules: { readonly due: number; readonly oldestDueSeconds: number };
}

export interface WorkSamplerOptions {
  readonly sample: () => Promise<WorkSample>;
  /** The figures are left out of that scrape. */
  readonly onError: (error: unknown) => void;
  /** Default 15,000. */
  readonly everyMs?: number;
}

/** Makes the gauges; they are sampled when the registry is scraped, and only then. */
export function watchWork(registry: MetricsRegistry, options: WorkSamplerOptions): void {
  const { counter, gauge } = define(registry);
  const gauges = {
    depth: gauge(
      "helmr_queue_depth",
      "Runs, builds and live copies of workspaces that wait for a worker now; counted up to 100,000 of each",
      ["kind", "worker_group"],
    ),
    oldest: gauge("helmr_queue_oldest_age_seconds", "How long the oldest of them has waited", [
      "kind",
      "worker_group",
    ]),
    runs: gauge("helmr_runs", "Runs that have not ended, by status; waiting includes the parked ones", [
      "status",
    ]),
    parked: gauge("helmr_runs_parked", "Waiting runs that are saved and have no guest"),
    workers: gauge("helmr_workers", "Registered workers by state", ["state"]),
    schedulesDue: gauge("helmr_schedules_due", "Schedules whose time has come and that have not fired yet"),
    scheduleLag: gauge("helmr_schedule_lag_seconds", "How overdue the oldest of them is; 0 when none is due"),
  };
  const errors = counter("helmr_work_sample_errors_total", "Samples of what waits that failed");
  const everyMs = options.everyMs ?? 15_000;
  let nextMs = 0;
  let underWay: Promise<void> | undefined;
  const refresh = async (): Promise<void> => {
    try {
      const sample = await options.sample();
      show(gauges, sample);
    } catch (error) {
      errors.inc();
      for (const each of Object.values(gauges)) each.reset();
      options.onError(error);
    }
  };
  // Whichever gauge is asked first has all of them set; the others of that scrape wait for the same sample.
  const collect = async (): Promise<void> => {
    if (underWay === undefined && performance.now() >= nextMs) {
      nextMs = performance.now() + everyMs;
      underWay = refresh().finally(() => {
        underWay = undefined;
      });
    }
    await underWay;
  };
  for (const each of Object.values(gauges)) Object.assign(each, { collect });
}

interface WorkGauges {
  readonly depth: Gauge<"kind" | "worker_group">;
  readonly oldest: Gauge<"kind" | "worker_group">;
  readonly runs: Gauge<"status">;
  readonly parked: Gauge;
  readonly workers: Gauge<"state">;
  readonly schedulesDue: Gauge;
  readonly scheduleLag: Gauge;
}

function show(gauges: WorkGauges, { queues, runs, parkedRuns, workers, schedules }: WorkSample): void {
  // Groups come and go.
  gauges.depth.reset();
  gauges.oldest.reset();
  gauges.workers.reset();
  for (const { kind, workerGroup, depth, oldestSeconds } of queues) {
    gauges.depth.set({ kind, worker_group: workerGroup }, depth);
    gauges.oldest.set({ kind, worker_group: workerGroup }, oldestSeconds);
  }
  for (const [status, count] of Object.entries(runs)) gauges.runs.set({ status }, count);
  gauges.parked.set(parkedRuns);
  for (const { state, count } of workers) gauges.workers.set({ state }, count);
  gauges.schedulesDue.set(schedules.due);
  gauges.scheduleLag.set(schedules.oldestDueSeconds);
}
