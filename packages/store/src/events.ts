/**
 * Events of runs and deployments: one gapless sequence per run or deployment, starting at 1.
 *
 * The sequence number is taken from `event_seq` of the run's (deployment's) row in the statement that writes the event,
 * so the row lock orders the writers. A transition that updates the row anyway does both in its own statement and uses
 * `insertRunEvents` as its last part.
 */
import { type RawBuilder, sql } from "kysely";
import type { Queryable } from "./database.ts";
import { jsonbText } from "./json.ts";

export interface NewEvent {
  readonly kind: string;
  /** Default: the kind, as contract 13.10 wants it for runs; deployments say it for people. */
  readonly message?: string;
  readonly category?: "lifecycle" | "log" | "metadata" | "build" | "runtime";
  readonly severity?: "info" | "warn" | "error";
  readonly source?: "control_plane" | "worker" | "guest";
  /** `sensitive`: readers see `{"redacted": true}` instead of the attributes. */
  readonly redactionClass?: "none" | "sensitive";
  readonly attributes?: Readonly<Record<string, unknown>>;
  /** Default: now. */
  readonly occurredAt?: Date | string;
}

/** The event as a JSON value that `eventColumns` reads. */
export function eventValue(event: NewEvent): Record<string, unknown> {
  return {
    kind: event.kind,
    message: event.message ?? event.kind,
    category: event.category ?? "lifecycle",
    severity: event.severity ?? "info",
    source: event.source ?? "control_plane",
    redaction_class: event.redactionClass ?? "none",
    attributes: event.attributes ?? {},
    occurred_at: event.occurredAt ?? null,
  };
}

/**
 * The part of a statement that writes events: `changed` names a CTE with the columns run_id, base_seq (the sequence
 * before these events), lease_id, attempt_id, attempt_number and events (a jsonb array of event values, in order).
 */
export function insertRunEvents(changed: string): RawBuilder<unknown> {
  return sql`insert into run_events (run_id, seq, run_lease_id, attempt_id, attempt_number,
      category, severity, source, kind, message, redaction_class, attributes, occurred_at)
    select c.run_id, c.base_seq + e.ordinality, c.lease_id, c.attempt_id, c.attempt_number,
      e.value->>'category', e.value->>'severity', e.value->>'source', e.value->>'kind', e.value->>'message',
      e.value->>'redaction_class', e.value->'attributes', coalesce((e.value->>'occurred_at')::timestamptz, now())
    from ${sql.ref(changed)} c cross join lateral jsonb_array_elements(c.events) with ordinality as e (value, ordinality)`;
}

/** Append events to a run; returns the sequence of the last one, undefined when there is no such run. */
export async function appendRunEvents(
  db: Queryable,
  runId: string,
  events: readonly NewEvent[],
): Promise<number | undefined> {
  const values = jsonbText(events.map(eventValue));
  const { rows } = await sql<{ last: number }>`
    with changed as (
      update runs set event_seq = event_seq + ${events.length}::int, updated_at = now() where id = ${runId}
      returning id as run_id, event_seq - ${events.length}::int as base_seq, event_seq as last,
        lease_id, attempt_id, nullif(attempt_number, 0) as attempt_number, ${values}::jsonb as events
    ), written as (${insertRunEvents("changed")})
    select last from changed`.execute(db);
  return rows[0]?.last;
}

/** Append events to a deployment; returns the sequence of the last one, undefined when there is no such deployment. */
export async function appendDeploymentEvents(
  db: Queryable,
  deploymentId: string,
  events: readonly NewEvent[],
): Promise<number | undefined> {
  const values = jsonbText(events.map(eventValue));
  const { rows } = await sql<{ last: number }>`
    with changed as (
      update deployments set event_seq = event_seq + ${events.length}::int where id = ${deploymentId}
      returning id as deployment_id, event_seq - ${events.length}::int as base_seq, event_seq as last,
        ${values}::jsonb as events
    ), written as (${insertDeploymentEvents("changed")})
    select last from changed`.execute(db);
  return rows[0]?.last;
}

/** As `insertRunEvents`, over a CTE with deployment_id, base_seq and events. */
export function insertDeploymentEvents(changed: string): RawBuilder<unknown> {
  return sql`insert into deployment_events
      (deployment_id, seq, category, severity, source, kind, message, attributes, occurred_at)
    select c.deployment_id, c.base_seq + e.ordinality, e.value->>'category', e.value->>'severity', e.value->>'source',
      e.value->>'kind', e.value->>'message', e.value->'attributes',
      coalesce((e.value->>'occurred_at')::timestamptz, now())
    from ${sql.ref(changed)} c cross join lateral jsonb_array_elements(c.events) with ordinality as e (value, ordinality)`;
}
