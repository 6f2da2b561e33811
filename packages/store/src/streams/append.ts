/**
 * appendRecord: input from outside, output of a run. Sequences are 1, 2, 3, ... per stream, allocated under its row's lock.
 *
 *   P1 Locks: session, then stream, then the waiting run.
 *   P2 The same idempotency key gives the same record, or idempotency_fingerprint_mismatch.
 *   P3 Input goes to the wait that waits for it, in the same transaction; when nothing waits, a continuation run follows:
 *      at once, or when the current run has ended without having taken it (continue.ts).
 */
import { createHash } from "node:crypto";
import { ApiError, canonicalJson, codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import type { ActingScope } from "../scope.ts";
import {
  getSession,
  type SessionKey,
  type SessionRow,
  sessionKeyMatches,
} from "../sessions/read-sessions.ts";
import { lockPendingWaits, type ResolvedWait, resolveWait } from "../waits/resolve.ts";
import { type Continuation, continueLocked } from "./continue.ts";
import { lockSessionStream, requireDeclared, type SessionStreamRow } from "./session-streams.ts";
import { noteTaken, type RecordRow, recordColumns, recordValue } from "./take.ts";

export interface NewRecord {
  /** JSON text. */
  readonly data: string;
  readonly contentType?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly idempotencyKey?: string | undefined;
}

export interface AppendedRecord {
  readonly record: RecordRow;
  readonly status: "created" | "duplicate";
  /** Of input that nobody waited for. */
  readonly continuation?: Continuation;
  /** Where the continuation run that was created is queued. */
  readonly workerGroupId?: string | undefined;
  /** To be told after the commit. */
  readonly resolved: readonly ResolvedWait[];
}

const defaultContentType = "application/json";

/** Asked in the transaction, under the session's lock: throws what refuses the caller this session. */
export type Permit = (tx: Tx, session: SessionRow) => Promise<void>;

/**
 * Contract 4.1. Undefined when there is no such session; throws stream_not_found, stream_direction_mismatch,
 * session_expired, session_terminal, idempotency_fingerprint_mismatch, and what `permit` throws.
 */
export async function appendInput(
  db: Queryable,
  scope: ActingScope,
  key: SessionKey,
  stream: string,
  record: NewRecord,
  permit?: Permit,
): Promise<AppendedRecord | undefined> {
  return await transaction(db, async (tx) => {
    const session = await lockSession(tx, scope, key);
    if (session === undefined) return undefined;
    await requireDeclared(tx, session, stream, "input");
    await permit?.(tx, session);
    if (session.status === "expired" || (session.status === "open" && session.due))
      throw codedError("session_expired");
    if (session.status !== "open") throw codedError("session_terminal");
    const row = await lockStream(tx, session, stream, "input");
    const appended = await insertRecord(tx, row, record);
    if (appended.status === "duplicate") return { ...appended, continuation: "duplicate", resolved: [] };
    await recordScopeAudit(tx, scope, {
      action: "stream.append",
      resourceId: row.id,
      attributes: { session_id: session.id, stream, direction: "input", sequence: appended.record.sequence },
    });
    const resolved = await giveToWaits(tx, row, appended.record);
    if (resolved.length > 0) return { ...appended, resolved };
    return { ...appended, resolved, ...(await continueLocked(tx, scope, session)) };
  });
}

/** Output from outside the run. Throws as `appendInput`, but for the session's state: output may follow its end. */
export async function appendOutput(
  db: Queryable,
  scope: ActingScope,
  key: SessionKey,
  stream: string,
  record: NewRecord,
): Promise<AppendedRecord | undefined> {
  return await transaction(db, async (tx) => {
    const session = await lockSession(tx, scope, key);
    if (session === undefined) return undefined;
    await requireDeclared(tx, session, stream, "output");
    const row = await lockStream(tx, session, stream, "output");
    const appended = await insertRecord(tx, row, record);
    if (appended.status === "created") {
      await recordScopeAudit(tx, scope, {
        action: "stream.append",
        resourceId: row.id,
        attributes: {
          session_id: session.id,
          stream,
          direction: "output",
          sequence: appended.record.sequence,
        },
      });
    }
    return { ...appended, resolved: [] };
  });
}

async function lockSession(tx: Tx, scope: ActingScope, key: SessionKey): Promise<SessionRow | undefined> {
  const { rows } = await sql<{ id: string }>`
    select s.id from sessions s where ${sessionKeyMatches(scope, key)} for no key update`.execute(tx);
  const id = rows[0]?.id;
  return id === undefined ? undefined : await getSession(tx, scope, { id });
}

async function lockStream(
  tx: Tx,
  session: SessionRow,
  stream: string,
  direction: "input" | "output",
): Promise<SessionStreamRow> {
  const ref = {
    environment_id: session.environment_id,
    session_id: session.id,
    deployment_id: session.active_deployment_id,
  };
  const row = await lockSessionStream(tx, ref, stream, direction);
  if (row === undefined) throw codedError("stream_not_found");
  return row;
}

/** P2; the stream's row is locked. */
export async function insertRecord(
  tx: Tx,
  stream: SessionStreamRow,
  record: NewRecord,
): Promise<{ readonly record: RecordRow; readonly status: "created" | "duplicate" }> {
  const contentType = record.contentType ?? defaultContentType;
  const fingerprint = record.idempotencyKey === undefined ? undefined : fingerprintOf(record, contentType);
  if (record.idempotencyKey !== undefined && fingerprint !== undefined) {
    const { rows } = await sql<RecordRow & { fingerprint: Buffer | null }>`
      select ${recordColumns}, r.fingerprint from stream_records r
      where r.stream_id = ${stream.id} and r.idempotency_key = ${record.idempotencyKey}`.execute(tx);
    const [known] = rows;
    if (known !== undefined) {
      if (known.fingerprint?.equals(fingerprint) !== true)
        throw codedError("idempotency_fingerprint_mismatch");
      const { fingerprint: _fingerprint, ...row } = known;
      return { record: row, status: "duplicate" };
    }
  }
  const { rows } = await sql<RecordRow>`
    with next as (update session_streams set sequence = sequence + 1 where id = ${stream.id} returning id, sequence)
    insert into stream_records as r (stream_id, sequence, id, data, correlation_id, content_type, idempotency_key, fingerprint)
    select id, sequence, ${uuidv7()}, ${record.data}::json, ${record.correlationId ?? null}, ${contentType},
      ${record.idempotencyKey ?? null}, ${fingerprint ?? null} from next
    returning ${recordColumns}`.execute(tx);
  const [row] = rows;
  if (row === undefined) throw new ApiError(404, "stream not found");
  return { record: row, status: "created" };
}

function fingerprintOf(record: NewRecord, contentType: string): Buffer {
  const parts = {
    data: JSON.parse(record.data) as unknown,
    correlation_id: record.correlationId ?? null,
    contentType,
  };
  return createHash("sha256").update(canonicalJson(parts)).digest();
}

/** P3: of one session at most one run waits; it takes the record when it waits for this correlation id, or for any. */
async function giveToWaits(tx: Tx, stream: SessionStreamRow, record: RecordRow): Promise<ResolvedWait[]> {
  const waitsForIt = sql`w.stream_id = ${stream.id} and w.after_sequence < ${record.sequence}
    and (w.correlation_id is null or w.correlation_id = ${record.correlation_id}::text)`;
  const resolved: ResolvedWait[] = [];
  for (const wait of await lockPendingWaits(tx, waitsForIt)) {
    const one = await resolveWait(tx, wait, { status: "completed", result: recordValue(record) });
    if (one === undefined) continue;
    await noteTaken(tx, stream.id, wait.correlation_id ?? undefined, record.sequence);
    resolved.push(one);
  }
  return resolved;
}
