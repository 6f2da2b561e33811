/** What workers' requests show of the runs: how long they waited, and how late their events are. */
import type { ClaimedRun, Resume } from "@helmr/store";
import { runTrace, type Tracing, traceparentOf } from "@helmr/telemetry";
import type { WorkerContext } from "./context.ts";

/** Runs were leased just now. */
export function observeLeased({ metrics, tracing }: WorkerContext, runs: readonly ClaimedRun[]): void {
  for (const run of runs) {
    metrics.leaseLatency.observe({ lease: kindOf(run) }, Math.max(0, run.waited_seconds));
    if (tracing.isOn) traceQueued(tracing, run);
  }
}

function kindOf(run: ClaimedRun): "first" | "retry" | "resume" {
  if (run.checkpoint_id !== null) return "resume";
  return run.attempt_number > 1 ? "retry" : "first";
}

/** A span of the time in the queue, made when it is over. */
function traceQueued(tracing: Tracing, run: ClaimedRun): void {
  const span = tracing.start("run queued", {
    parent: traceparentOf(runTrace(run.id, run.trace_context)),
    kind: "producer",
    startedAt: new Date(Date.now() - run.waited_seconds * 1000),
    attributes: {
      "helmr.run_id": run.id,
      "helmr.session_id": run.session_id,
      "helmr.lease_id": run.lease_id,
      "helmr.queue": run.queue_name,
      "helmr.lease": kindOf(run),
    },
  });
  span.end();
}

/** A parked run goes on. */
export function observeResumed({ metrics }: Pick<WorkerContext, "metrics">, { wait }: Resume): void {
  metrics.parkedWait.observe(Math.max(0, wait.waitedSeconds));
}

/** Items of an append were committed; they are in the order of their numbers. */
export function observeAppended(
  { metrics }: WorkerContext,
  items: readonly { readonly occurredAt: string }[],
): void {
  metrics.appendItems.observe(items.length);
  const [oldest] = items;
  if (oldest !== undefined)
    metrics.eventLag.observe(Math.max(0, Date.now() - Date.parse(oldest.occurredAt)) / 1000);
}
