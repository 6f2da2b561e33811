/** Rows of events as the wire shows them (contract 6.1, 9.3), and pages of them. */
import type { Event, EventPage } from "@helmr/api";
import type { DeploymentEventRow, RunEventRow } from "@helmr/store";
import { leaseTrace, runTrace, type TraceContext, traceparentOf } from "@helmr/telemetry";

export function presentRunEvent(row: RunEventRow): Event {
  return {
    id: String(row.seq),
    run_id: row.run_id,
    ...(row.run_lease_id === null ? {} : { run_lease_id: row.run_lease_id }),
    ...(row.attempt_id === null ? {} : { attempt_id: row.attempt_id }),
    ...(row.attempt_number === null ? {} : { attempt_number: row.attempt_number }),
    trace: traceOf(
      row.run_lease_id === null
        ? runTrace(row.run_id, row.trace_context)
        : leaseTrace(row.run_id, row.trace_context, row.run_lease_id),
    ),
    ...sharedFields(row),
    redaction_class: row.redaction_class,
    attributes: row.redaction_class === "sensitive" ? { redacted: true } : row.attributes,
  };
}

export function presentDeploymentEvent(deploymentId: string, row: DeploymentEventRow): Event {
  return {
    id: String(row.seq),
    deployment_id: deploymentId,
    trace: traceOf(runTrace(deploymentId, null)),
    ...sharedFields(row),
    redaction_class: "none",
    attributes: row.attributes,
  };
}

function sharedFields(row: RunEventRow | DeploymentEventRow) {
  return {
    category: row.category,
    severity: row.severity,
    source: row.source,
    kind: row.kind,
    message: row.message === "" ? row.kind : row.message,
    at: row.at.toISOString(),
    occurred_at: row.occurred_at.toISOString(),
  };
}

/** A run belongs to the trace of who started it; a lease of it is a span there. Deployments are traces of their own. */
function traceOf(trace: TraceContext): Event["trace"] {
  return { trace_id: trace.traceId, span_id: trace.spanId, traceparent: traceparentOf(trace) };
}

/** A page of `limit` from rows read with one more: `next_cursor` only when that one was there. */
export function presentPage(events: readonly Event[], cursor: number, limit: number): EventPage {
  const page = events.slice(0, limit);
  const last = page.at(-1);
  if (events.length <= limit || last === undefined) return { events: page, cursor };
  return { events: page, cursor, next_cursor: Number(last.id) };
}
