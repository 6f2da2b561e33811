/** loseRuns and expireQueuedRuns: what time does to runs. Called by the dispatcher's loops, in pages. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { decideHandBack, decideLoss, decideRelease, expired, type HandBackReason } from "./decide.ts";
import { holds, type LeaseRef, type RunRef } from "./finish.ts";
import { maxDurationGraceSeconds } from "./lifecycle.ts";
import { type LastSave, lastSaveColumns, noteLostChanges, withLostChanges } from "./lost-changes.ts";
import { type Decision, type LockedRun, lockedColumns, settleRuns } from "./settle.ts";

/** A run that left its state; `requeued` ones want a hint to the workers of the group. */
export interface SweptRun extends RunRef {
  readonly workerGroupId: string;
  readonly requeued: boolean;
}

/**
 * Up to `limit` runs whose lease is over (or whose max duration is, by far) are queued again, failed or cancelled. With
 * `workerInstanceId`: all leases of that worker, whenever they end (it registers anew, so it has none of them).
 */
export async function expireLeases(
  db: Queryable,
  { limit, workerInstanceId }: { limit: number; workerInstanceId?: string },
): Promise<SweptRun[]> {
  const isOver =
    workerInstanceId === undefined
      ? sql`(r.lease_expires_at <= now()
          or r.started_at + (r.max_duration_seconds + ${sql.lit(maxDurationGraceSeconds)}) * interval '1 second'
            - r.active_ms * interval '1 millisecond' <= now())`
      : sql`r.worker_instance_id = ${workerInstanceId}`;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRun & LastSave & { lease_over: boolean }>`
      select ${lockedColumns}, ${lastSaveColumns}, r.lease_expires_at <= now() as lease_over from runs r
      where r.lease_id is not null and ${isOver} order by r.id limit ${limit}::integer
      for update skip locked`.execute(tx);
    const settled = rows.map((run) => {
      const isLeaseLost = run.lease_over || workerInstanceId !== undefined;
      const decision = decideLoss(run, isLeaseLost ? "lease_lost" : "max_duration");
      return { run, decision: withLostChanges(run, decision) };
    });
    await settleRuns(tx, settled);
    await noteLostChanges(tx, rows);
    return settled.map(swept);
  });
}

/**
 * Take back leases that never reached their worker (it hung up while its work was claimed): queued again at once, not
 * counted as lost.
 */
export async function releaseLeases(db: Queryable, leaseIds: readonly string[]): Promise<void> {
  await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRun>`select ${lockedColumns} from runs r
      where r.lease_id = any (${leaseIds}::uuid[]) and r.started_at is null order by r.id for update`.execute(
      tx,
    );
    await settleRuns(
      tx,
      rows.map((run) => ({ run, decision: decideRelease(run) })),
    );
  });
}

/**
 * The worker that has the run gives it back, with its guest gone: queued again at once, not counted as a try, whether it had
 * begun or not. What a begun one changed since its last save is lost.
 */
export async function handBackRun(
  db: Queryable,
  input: LeaseRef & { readonly reason: HandBackReason },
): Promise<{ readonly status: "lost" } | ({ readonly status: "accepted" } & RunRef)> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRun & LastSave>`
      select ${lockedColumns}, ${lastSaveColumns} from runs r where r.lease_id = ${input.leaseId} for update`.execute(
      tx,
    );
    const run = rows[0];
    if (run === undefined || !holds(run, input)) return { status: "lost" } as const;
    const decision = withLostChanges(run, decideHandBack(run, input.reason));
    await settleRuns(tx, [{ run, decision }]);
    await noteLostChanges(tx, [run]);
    const { requeued: _requeued, ...ref } = swept({ run, decision });
    return { status: "accepted", ...ref } as const;
  });
}

/** Up to `limit` queued runs whose ttl is over end as `expired`. */
export async function expireQueuedRuns(db: Queryable, limit: number): Promise<SweptRun[]> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRun>`
      select ${lockedColumns} from runs r where r.status = 'queued' and r.ttl_expires_at <= now()
      order by r.ttl_expires_at limit ${limit}::integer for update skip locked`.execute(tx);
    const settled = rows.map((run) => ({ run, decision: expired(run.ttl ?? "") }));
    await settleRuns(tx, settled);
    return settled.map(swept);
  });
}

function swept({ run, decision }: { run: LockedRun; decision: Decision }): SweptRun {
  const {
    id: runId,
    environment_id: environmentId,
    session_id: sessionId,
    worker_group_id: workerGroupId,
  } = run;
  return { runId, environmentId, sessionId, workerGroupId, requeued: decision.status === "queued" };
}
