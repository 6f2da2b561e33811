/** Rows of events as the wire shows them (contract 6.1, 9.3), and pages of them. */
import { createHash } from "node:crypto";
import type { Event, EventPage } from "@helmr/api";
import type { DeploymentEventRow, RunEventRow } from "@helmr/store";

export function presentRunEvent(row: RunEventRow): Event {
  return {
    id: String(row.seq),
    run_id: row.run_id,
    ...(row.run_lease_id === null ? {} : { run_lease_id: row.run_lease_id }),
    ...(row.attempt_id === null ? {} : { attempt_id: row.attempt_id }),
    ...(row.attempt_number === null ? {} : { attempt_number: row.attempt_number }),
    trace: traceOf(row.run_id, row.attempt_id ?? row.run_id),
    ...sharedFields(row),
    redaction_class: row.redaction_class,
    attributes: row.redaction_class === "sensitive" ? { redacted: true } : row.attributes,
  };
}

export function presentDeploymentEvent(deploymentId: string, row: DeploymentEventRow): Event {
  return {
    id: String(row.seq),
    deployment_id: deploymentId,
    trace: traceOf(deploymentId, deploymentId),
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

/** W3C trace context: a run (deployment) is a trace, an attempt a span; both follow from their ids. */
function traceOf(traceSource: string, spanSource: string): Event["trace"] {
  const traceId = traceSource.replaceAll("-", "");
  const spanId = createHash("sha256").update(spanSource).digest("hex").slice(0, 16);
  return { trace_id: traceId, span_id: spanId, traceparent: `00-${traceId}-${spanId}-01` };
}

/** A page of `limit` from rows read with one more: `next_cursor` only when that one was there. */
export function presentPage(events: readonly Event[], cursor: number, limit: number): EventPage {
  const page = events.slice(0, limit);
  const last = page.at(-1);
  if (events.length <= limit || last === undefined) return { events: page, cursor };
  return { events: page, cursor, next_cursor: Number(last.id) };
}
