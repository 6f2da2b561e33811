/** createWait: a running attempt waits, or learns at once that what it waits for is there. */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { appendRunEvents, eventValue, insertRunEvents, type NewEvent } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import { holds, type LeaseRef } from "../runs/finish.ts";
import { tallyRuns } from "../runs/lifecycle.ts";
import { lockSessionStream } from "../streams/session-streams.ts";
import { type RecordRow, recordValue, takeRecord } from "../streams/take.ts";
import { type WaitRow, waitColumns } from "./lifecycle.ts";
import { type Resolution, resolvedEvent } from "./resolve.ts";

/** What the run waits for. Times are milliseconds from now, or absolute. */
export type WaitFor =
  | { readonly kind: "timer"; readonly dueAt: Date }
  | { readonly kind: "token"; readonly tokenId: string; readonly timeoutMs?: number | undefined }
  | {
      readonly kind: "stream";
      readonly stream: string;
      readonly correlationId?: string | undefined;
      /** Undefined: after what the session's ended runs have taken. */
      readonly afterSequence?: number | undefined;
      readonly timeoutMs?: number | undefined;
    };

export interface CreateWait extends LeaseRef {
  /** Counted by the attempt from 1 (V3). */
  readonly number: number;
  readonly waitFor: WaitFor;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tags: readonly string[];
}

interface WaitingRun {
  readonly id: string;
  readonly environment_id: string;
  readonly session_id: string;
  readonly deployment_id: string;
  readonly worker_instance_id: string | null;
  readonly fencing: number;
  readonly attempt_number: number;
  readonly cancel_requested_at: Date | null;
}

/** `lost`: the lease is not (or no longer) this worker's. Throws token_not_found, stream_not_found. */
export type CreateWaitResult =
  | { readonly status: "lost" }
  | { readonly status: "created"; readonly runId: string; readonly wait: WaitRow };

export async function createWait(db: Queryable, input: CreateWait): Promise<CreateWaitResult> {
  return await transaction(db, async (tx): Promise<CreateWaitResult> => {
    const run = await lockRun(tx, input);
    if (run === undefined) return { status: "lost" };
    const known = await findWait(tx, run, input.number);
    if (known !== undefined) return { status: "created", runId: run.id, wait: known };
    const plan = await planWait(tx, run, input);
    const id = uuidv7();
    const wait = await insertWait(tx, run, id, input, plan);
    const created = createdEvent(wait, plan.timeoutSeconds);
    if (plan.resolution === undefined) await enterWaiting(tx, run.id, created);
    else await appendRunEvents(tx, run.id, [created, resolvedEvent(wait, plan.resolution)]);
    return { status: "created", runId: run.id, wait };
  });
}

async function lockRun(tx: Tx, lease: LeaseRef): Promise<WaitingRun | undefined> {
  const { rows } =
    await sql<WaitingRun>`select id, environment_id, session_id, deployment_id, worker_instance_id, fencing,
      attempt_number, cancel_requested_at
    from runs where lease_id = ${lease.leaseId} for update`.execute(tx);
  const run = rows[0];
  return run !== undefined && holds(run, lease) ? run : undefined;
}

/** V3 */
async function findWait(tx: Tx, run: WaitingRun, number: number): Promise<WaitRow | undefined> {
  const { rows } = await sql<WaitRow>`select ${waitColumns} from run_waits w
    where w.run_id = ${run.id} and w.attempt_number = ${run.attempt_number} and w.number = ${number}`.execute(
    tx,
  );
  return rows[0];
}

interface WaitPlan {
  readonly params: Record<string, unknown>;
  readonly timeoutAt: Date | undefined;
  readonly timeoutSeconds?: number | undefined;
  readonly streamId?: string;
  readonly correlationId?: string | undefined;
  readonly afterSequence?: number;
  readonly tokenId?: string;
  /** Set: there is nothing to wait for. */
  readonly resolution?: Resolution | undefined;
}

async function planWait(tx: Tx, run: WaitingRun, { waitFor }: CreateWait): Promise<WaitPlan> {
  const plan = await planFor(tx, run, waitFor);
  // A run that is to be cancelled does not begin to wait.
  return run.cancel_requested_at === null ? plan : { ...plan, resolution: { status: "cancelled" } };
}

async function planFor(tx: Tx, run: WaitingRun, waitFor: WaitFor): Promise<WaitPlan> {
  if (waitFor.kind === "timer") {
    const { dueAt } = waitFor;
    const isOver = dueAt.getTime() <= Date.now();
    const params = { due_at: dueAt.toISOString() };
    return { params, timeoutAt: dueAt, ...(isOver ? { resolution: { status: "completed" } } : {}) };
  }
  if (waitFor.kind === "token") return await planForToken(tx, run, waitFor);
  return await planForStream(tx, run, waitFor);
}

/** The token's row is locked for share: whoever completes it then sees the wait, or the wait sees the completion. */
async function planForToken(
  tx: Tx,
  run: WaitingRun,
  { tokenId, timeoutMs }: WaitFor & { kind: "token" },
): Promise<WaitPlan> {
  const { rows } = await sql<{ status: string; data: string | null; timeout_at: Date }>`
    select status, data, timeout_at from tokens where id = ${tokenId} and environment_id = ${run.environment_id}
    for share`.execute(tx);
  const token = rows[0];
  if (token === undefined) throw codedError("token_not_found");
  const tokenEndMs = token.timeout_at.getTime();
  const timeoutAt = new Date(Math.min(tokenEndMs, Date.now() + (timeoutMs ?? Number.POSITIVE_INFINITY)));
  const plan = { params: { token_id: tokenId }, timeoutAt, timeoutSeconds: seconds(timeoutMs), tokenId };
  if (token.status === "completed")
    return { ...plan, resolution: { status: "completed", result: token.data ?? "null" } };
  if (token.status === "cancelled") return { ...plan, resolution: { status: "cancelled" } };
  return timeoutAt.getTime() <= Date.now() ? { ...plan, resolution: { status: "timed_out" } } : plan;
}

async function planForStream(
  tx: Tx,
  run: WaitingRun,
  waitFor: WaitFor & { kind: "stream" },
): Promise<WaitPlan> {
  const stream = await lockSessionStream(tx, run, waitFor.stream, "input");
  if (stream === undefined) throw codedError("stream_not_found");
  const { correlationId, timeoutMs } = waitFor;
  const taken = await takeRecord(tx, stream.id, { correlationId, afterSequence: waitFor.afterSequence });
  const { afterSequence, record } = taken;
  const params = {
    stream: waitFor.stream,
    after_sequence: afterSequence,
    ...(correlationId === undefined ? {} : { correlation_id: correlationId }),
  };
  return {
    params,
    timeoutAt: timeoutMs === undefined ? undefined : after(timeoutMs),
    timeoutSeconds: seconds(timeoutMs),
    streamId: stream.id,
    correlationId,
    afterSequence,
    ...(record === undefined ? {} : { resolution: recordResolution(record) }),
  };
}

/** What a stream wait gives. */
export function recordResolution(record: RecordRow): Resolution {
  return { status: "completed", result: recordValue(record) };
}

async function insertWait(
  tx: Tx,
  run: WaitingRun,
  id: string,
  input: CreateWait,
  plan: WaitPlan,
): Promise<WaitRow> {
  const { resolution } = plan;
  const { rows } = await sql<WaitRow>`
    insert into run_waits as w (id, environment_id, run_id, attempt_number, number, kind, status, params, metadata, tags,
      stream_id, correlation_id, after_sequence, token_id, timeout_at, result, resolved_at)
    values (${id}, ${run.environment_id}, ${run.id}, ${run.attempt_number}, ${input.number}, ${input.waitFor.kind},
      ${resolution?.status ?? "pending"}, ${jsonbText(plan.params)}::jsonb, ${jsonbText(input.metadata)}::jsonb,
      ${[...input.tags]}::text[], ${plan.streamId ?? null}, ${plan.correlationId ?? null}, ${plan.afterSequence ?? null},
      ${plan.tokenId ?? null}, ${plan.timeoutAt ?? null}, ${resolution?.result ?? null}::json,
      case when ${resolution === undefined}::boolean then null else now() end)
    returning ${waitColumns}`.execute(tx);
  const wait = rows[0];
  if (wait === undefined) throw new Error("the insert of a wait returned no row");
  return wait;
}

/** Contract 6.1. */
function createdEvent(wait: WaitRow, timeoutSeconds: number | undefined): NewEvent {
  return {
    kind: "run_wait.created",
    attributes: {
      run_wait_id: wait.id,
      kind: wait.kind,
      params: wait.params,
      metadata: wait.metadata,
      tags: wait.tags,
      ...(timeoutSeconds === undefined ? {} : { timeout: timeoutSeconds }),
    },
  };
}

/** V1: a run that begins to wait is running; a cancel that was asked for meanwhile keeps its execution status. */
async function enterWaiting(tx: Tx, runId: string, event: NewEvent): Promise<void> {
  const events = jsonbText([eventValue(event)]);
  await sql`
    with changed as (
      update runs r set status = 'waiting', event_seq = event_seq + 1, updated_at = now(),
        execution_status = case when execution_status = 'cancelling' then 'cancelling' else 'waiting' end
      where id = ${runId} and status = 'running'
      returning r.id as run_id, r.environment_id, r.event_seq - 1 as base_seq, r.lease_id, r.attempt_id, r.attempt_number,
        ${events}::jsonb as events, 'running' as from_status, 'waiting' as to_status
    ), written as (${insertRunEvents("changed")})
    ${tallyRuns("changed")}`.execute(tx);
}

function after(ms: number): Date {
  return new Date(Date.now() + ms);
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.ceil(ms / 1000);
}
