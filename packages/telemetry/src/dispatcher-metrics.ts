/** What `helmr-dispatcher` measures of its loops and of the schedules it fires. */
import { define, longSecondsBuckets, secondsBuckets } from "./define.ts";
import type { MetricsRegistry } from "./registry.ts";

export type DispatcherMetrics = ReturnType<typeof createDispatcherMetrics>;

export function createDispatcherMetrics(registry: MetricsRegistry) {
  const { counter, gauge, watched, histogram } = define(registry);
  return {
    loops: {
      pages: counter("helmr_dispatcher_pages_total", "Pages of work that a loop has done", ["loop"]),
      rows: counter("helmr_dispatcher_rows_total", "Rows that a loop has changed, or acted on", ["loop"]),
      errors: counter("helmr_dispatcher_errors_total", "Passes of a loop that ended with an error", ["loop"]),
      seconds: histogram(
        "helmr_dispatcher_pass_seconds",
        "Time of one pass of a loop: its pages until nothing was left",
        secondsBuckets,
        ["loop"],
      ),
      lag: watched(
        "helmr_dispatcher_loop_lag_seconds",
        "Time since a loop's last pass that ended without an error",
        ["loop"],
      ),
      behind: gauge(
        "helmr_dispatcher_loop_behind",
        "1 when the last pass of a loop left work for the next, because there was more than one pass does",
        ["loop"],
      ),
    },
    schedules: {
      fires: counter("helmr_schedule_fires_total", "Due slots of schedules, by what became of the attempt", [
        "outcome",
      ]),
      fireLag: histogram(
        "helmr_schedule_fire_lag_seconds",
        "From when a schedule was due, jitter included, until its session was started",
        longSecondsBuckets,
      ),
    },
  };
}
