/** appendToRun: logs, metadata and facts of a running attempt, numbered by the worker, written once (I9). */
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { eventValue, type NewEvent } from "../events.ts";
import { jsonbText } from "../json.ts";
import { holds, type LeaseRef, type RunRef } from "./finish.ts";
import { maxRunEvents, maxStoredLogBytes } from "./lifecycle.ts";
import { applyMetadata, type MetadataOperation } from "./metadata.ts";

export type AppendItem = { readonly number: number; readonly occurredAt: string } & (
  | { readonly kind: "log"; readonly stream: "stdout" | "stderr"; readonly content: Buffer }
  | { readonly kind: "metadata"; readonly operation: MetadataOperation }
  | {
      readonly kind: "event";
      readonly eventKind: string;
      readonly severity: "info" | "warn" | "error";
      readonly attributes: Readonly<Record<string, unknown>>;
    }
);

export interface AppendInput extends LeaseRef {
  /** In ascending order of number. */
  readonly items: readonly AppendItem[];
}

/** `acknowledged`: the highest number that counts now. Undefined when the lease is lost. */
export type AppendResult = RunRef & { readonly acknowledged: number };

/** Kinds that only the control plane's own transitions write. */
const reservedKinds = /^(run|run_lease|run_wait|log)\./;

/** Whether a worker may append an event of this kind: lower-case words and dots, none of the lifecycle's. */
export function isWorkerEventKind(kind: string): boolean {
  return /^[a-z][a-z0-9_.]{0,127}$/.test(kind) && !reservedKinds.test(kind);
}

interface AppendState {
  readonly id: string;
  readonly environment_id: string;
  readonly session_id: string;
  readonly worker_instance_id: string | null;
  readonly fencing: number;
  readonly append_number: number;
  readonly event_seq: number;
  readonly metadata: Record<string, unknown>;
  readonly log_stored_bytes: number;
  readonly log_truncated: boolean;
}

/** What one append adds up to. */
interface Changes {
  events: { offset: number; event: NewEvent }[];
  logs: { offset: number; stream: string; number: number; content: Buffer; occurredAt: string }[];
  metadata: Record<string, unknown>;
  stdoutBytes: number;
  stderrBytes: number;
  storedBytes: number;
  truncated: boolean;
  /** Events and logs together. */
  length: number;
}

/** Write the items that do not count yet; repeating an append is acknowledged without effect. */
export async function appendToRun(db: Queryable, input: AppendInput): Promise<AppendResult | undefined> {
  return await transaction(db, async (tx) => {
    const state = await lock(tx, input);
    if (state === undefined) return undefined;
    const items = input.items.filter((item) => item.number > state.append_number);
    const acknowledged = Math.max(state.append_number, ...items.map((item) => item.number));
    if (items.length > 0) await write(tx, state, collect(state, items), acknowledged);
    return {
      runId: state.id,
      environmentId: state.environment_id,
      sessionId: state.session_id,
      acknowledged,
    };
  });
}

async function lock(tx: Tx, input: AppendInput): Promise<AppendState | undefined> {
  const { rows } = await sql<AppendState>`
    select id, environment_id, session_id, worker_instance_id, fencing, append_number, event_seq, metadata,
      log_stored_bytes, log_truncated
    from runs where lease_id = ${input.leaseId} for update`.execute(tx);
  const state = rows[0];
  return state !== undefined && holds(state, input) ? state : undefined;
}

function collect(state: AppendState, items: readonly AppendItem[]): Changes {
  const changes: Changes = {
    events: [],
    logs: [],
    metadata: state.metadata,
    stdoutBytes: 0,
    stderrBytes: 0,
    storedBytes: 0,
    truncated: state.log_truncated,
    length: 0,
  };
  for (const item of items) {
    if (item.kind === "log") collectLog(state, changes, item);
    else if (item.kind === "metadata") collectMetadata(state, changes, item);
    else addEvent(changes, workerEvent(item));
  }
  return changes;
}

function collectLog(state: AppendState, changes: Changes, item: AppendItem & { kind: "log" }): void {
  const { stream, content, number, occurredAt } = item;
  if (stream === "stdout") changes.stdoutBytes += content.length;
  else changes.stderrBytes += content.length;
  const stored = state.log_stored_bytes + changes.storedBytes + content.length;
  if (!changes.truncated && stored <= maxStoredLogBytes && hasRoom(state, changes)) {
    changes.length += 1;
    changes.logs.push({ offset: changes.length, stream, number, content, occurredAt });
    changes.storedBytes += content.length;
  } else if (!changes.truncated) {
    changes.truncated = true;
    addEvent(changes, {
      kind: "log.truncated",
      category: "log",
      severity: "warn",
      attributes: { limit_bytes: maxStoredLogBytes, limit_events: maxRunEvents },
      occurredAt,
    });
  }
}

function collectMetadata(
  state: AppendState,
  changes: Changes,
  item: AppendItem & { kind: "metadata" },
): void {
  const result = applyMetadata(changes.metadata, item.operation);
  const isApplied = result.metadata !== undefined;
  if (isApplied) changes.metadata = result.metadata;
  if (!hasRoom(state, changes)) return;
  addEvent(changes, {
    kind: isApplied ? "run.metadata.updated" : "run.metadata.rejected",
    category: "metadata",
    severity: isApplied ? "info" : "warn",
    source: "guest",
    attributes: result.attributes,
    occurredAt: item.occurredAt,
  });
}

function workerEvent(item: AppendItem & { kind: "event" }): NewEvent {
  const { eventKind: kind, severity, attributes, occurredAt } = item;
  return { kind, category: "runtime", severity, source: "worker", attributes, occurredAt };
}

function addEvent(changes: Changes, event: NewEvent): void {
  changes.length += 1;
  changes.events.push({ offset: changes.length, event });
}

function hasRoom(state: AppendState, changes: Changes): boolean {
  return state.event_seq + changes.length < maxRunEvents;
}

async function write(tx: Tx, state: AppendState, changes: Changes, acknowledged: number): Promise<void> {
  const { logs, events } = changes;
  const isChanged = changes.metadata !== state.metadata;
  const eventRows = events.map(({ offset, event }) => ({ ...eventValue(event), offset }));
  await sql`
    with changed as (
      update runs r set append_number = ${acknowledged}::bigint, event_seq = event_seq + ${changes.length}::integer,
        metadata = ${isChanged ? sql`${jsonbText(changes.metadata)}::jsonb` : sql`r.metadata`},
        stdout_bytes = stdout_bytes + ${changes.stdoutBytes}::bigint,
        stderr_bytes = stderr_bytes + ${changes.stderrBytes}::bigint,
        log_stored_bytes = log_stored_bytes + ${changes.storedBytes}::bigint, log_truncated = ${changes.truncated},
        updated_at = now()
      where id = ${state.id}
      returning id, event_seq - ${changes.length}::integer as base_seq, lease_id, attempt_id, attempt_number
    ), logged as (
      insert into run_logs (run_id, seq, run_lease_id, attempt_id, attempt_number, stream, observed_seq, content, occurred_at)
      select c.id, c.base_seq + l.position, c.lease_id, c.attempt_id, c.attempt_number, l.stream, l.number, l.content, l.occurred_at
      from changed c, unnest(${logs.map((log) => log.offset)}::bigint[], ${logs.map((log) => log.stream)}::text[],
        ${logs.map((log) => log.number)}::bigint[], ${logs.map((log) => log.content)}::bytea[],
        ${logs.map((log) => log.occurredAt)}::timestamptz[]) l (position, stream, number, content, occurred_at)
    )
    insert into run_events (run_id, seq, run_lease_id, attempt_id, attempt_number,
      category, severity, source, kind, message, attributes, occurred_at)
    select c.id, c.base_seq + e."offset", c.lease_id, c.attempt_id, c.attempt_number, e.category, e.severity, e.source,
      e.kind, e.message, e.attributes, coalesce(e.occurred_at, now())
    from changed c, jsonb_to_recordset(${jsonbText(eventRows)}::jsonb) as e ("offset" bigint, category text,
      severity text, source text, kind text, message text, attributes jsonb, occurred_at timestamptz)`.execute(
    tx,
  );
}
