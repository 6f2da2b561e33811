/** parkRun: a waiting run's guest is saved and gone; and what becomes of it when it is to go on. */
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { discardArtifacts } from "../deletion/artifacts.ts";
import { eventValue, insertRunEvents } from "../events.ts";
import { uuidv7 } from "../ids.ts";
import { jsonbText } from "../json.ts";
import { leaveRunCopy } from "../materializations/leave-run.ts";
import type { EndedMaterialization } from "../materializations/lifecycle.ts";
import { decideOutcome } from "../runs/decide.ts";
import { holds, type LeaseRef, type RunRef } from "../runs/finish.ts";
import { tallyRuns } from "../runs/lifecycle.ts";
import { type Decision, type LockedRun, lockedColumns, settleRuns } from "../runs/settle.ts";
import type { WaitStatus } from "../schema-waits.ts";
import { maxFailedRestores } from "./lifecycle.ts";

export interface ParkRun extends LeaseRef {
  readonly waitId: string;
  /** What a restore needs; `compatibility` names the workers that can. */
  readonly manifest: Readonly<Record<string, unknown>> & { readonly compatibility: string };
  readonly artifactDigest: string;
  readonly sizeBytes: number;
  /** The workspace's files at that instant; else they are in the archive. */
  readonly workspaceVersionId?: string | undefined;
  /** For the event: what the parts took, in milliseconds. */
  readonly timings: Readonly<Record<string, number>>;
}

/**
 * `resolved`: the wait is over, the run is to be cancelled, or somebody works in its workspace: nothing was recorded, the
 * guest goes on. `ended`: a live copy that nobody used, which goes with the guest.
 */
export type ParkResult =
  | { readonly status: "lost" }
  | ({
      readonly status: "parked" | "resolved";
      readonly ended?: EndedMaterialization | undefined;
    } & RunRef);

interface ParkingRun {
  readonly id: string;
  readonly environment_id: string;
  readonly session_id: string;
  readonly workspace_id: string;
  readonly worker_instance_id: string | null;
  readonly fencing: number;
  readonly cancel_requested_at: Date | null;
}

/** Record the checkpoint and let go of the lease, in one transaction (V2, V4). */
export async function parkRun(db: Queryable, input: ParkRun): Promise<ParkResult> {
  return await transaction(db, async (tx): Promise<ParkResult> => {
    const { rows } = await sql<ParkingRun>`
      select r.id, r.environment_id, r.session_id, r.workspace_id, r.worker_instance_id, r.fencing, r.cancel_requested_at
      from runs r where r.lease_id = ${input.leaseId} for update`.execute(tx);
    const run = rows[0];
    if (run === undefined || !holds(run, input)) return { status: "lost" };
    const ref = { runId: run.id, environmentId: run.environment_id, sessionId: run.session_id };
    const isPending = await isWaitPending(tx, run.id, input.waitId);
    if (!isPending || run.cancel_requested_at !== null) return { status: "resolved", ...ref };
    const left = await leaveRunCopy(tx, run);
    if (left === "in use") return { status: "resolved", ...ref };
    const id = await recordCheckpoint(tx, run, input);
    await leaveLease(tx, run, id, input);
    return { status: "parked", ended: left, ...ref };
  });
}

async function isWaitPending(tx: Tx, runId: string, waitId: string): Promise<boolean> {
  const { rows } =
    await sql`select from run_waits where id = ${waitId} and run_id = ${runId} and status = 'pending'`.execute(
      tx,
    );
  return rows.length > 0;
}

/** The checkpoint before this one is not needed any more: its wait is long resolved. */
async function recordCheckpoint(tx: Tx, run: ParkingRun, input: ParkRun): Promise<string> {
  const runId = run.id;
  const id = uuidv7();
  await sql`with before as (
      delete from run_checkpoints where run_id = ${runId} returning artifact_digest
    ) ${discardArtifacts(
      sql`select artifact_digest from before where artifact_digest <> ${input.artifactDigest}`,
    )}`.execute(tx);
  const version = input.workspaceVersionId ?? null;
  const { numAffectedRows = 0n } = await sql`
    insert into run_checkpoints (id, run_id, wait_id, manifest, artifact_digest, size_bytes, workspace_version_id)
    select ${id}::uuid, ${runId}::uuid, ${input.waitId}::uuid, ${jsonbText(input.manifest)}::jsonb,
      ${input.artifactDigest}::text, ${input.sizeBytes}::bigint, ${version}::uuid
    where ${version}::uuid is null or exists (
      select from workspace_versions v where v.id = ${version}::uuid and v.workspace_id = ${run.workspace_id})`.execute(
    tx,
  );
  if (numAffectedRows === 0n)
    throw new ApiError(400, "workspace_version_id: is no version of the run's workspace");
  return id;
}

async function leaveLease(tx: Tx, run: ParkingRun, checkpointId: string, input: ParkRun): Promise<void> {
  const attributes = { run_wait_id: input.waitId, size_bytes: input.sizeBytes, timings_ms: input.timings };
  const events = jsonbText([eventValue({ kind: "run.parked", attributes })]);
  await sql`
    with before as (select lease_id, status from runs where id = ${run.id}),
    changed as (
      update runs r set status = 'waiting', execution_status = 'parked', lease_id = null, lease_expires_at = null, worker_instance_id = null,
        checkpoint_id = ${checkpointId}, event_seq = event_seq + 1, updated_at = now(), ttl_expires_at = null,
        active_ms = active_ms + greatest(0, (extract(epoch from now() - started_at) * 1000)::bigint)
      where id = ${run.id}
      returning r.id as run_id, r.event_seq - 1 as base_seq, (select lease_id from before) as lease_id, r.attempt_id,
        r.attempt_number, ${events}::jsonb as events, r.environment_id
    ), written as (${insertRunEvents("changed")}),
    restarted as (select c.environment_id, b.status as from_status, 'waiting' as to_status from changed c, before b
      where b.status <> 'waiting'),
    tally as (${tallyRuns("restarted")})
    update workspaces set worker_instance_id = null where id = ${run.workspace_id}`.execute(tx);
}

/** What a worker needs to go on with a parked run, apart from the task's definition. */
export interface Resume {
  readonly checkpointId: string;
  readonly manifest: Record<string, unknown>;
  readonly artifactDigest: string;
  readonly sizeBytes: number;
  /** The workspace's files; undefined: they are in the archive. */
  readonly workspaceVersion: { readonly id: string; readonly manifestDigest: string } | undefined;
  readonly wait: {
    readonly id: string;
    readonly number: number;
    readonly status: WaitStatus;
    /** JSON text. */
    readonly result: string | null;
    /** Since it began. */
    readonly waitedSeconds: number;
  };
}

/** Undefined when the run has no checkpoint any more. */
export async function readResume(db: Queryable, runId: string): Promise<Resume | undefined> {
  const { rows } = await sql<{
    id: string;
    manifest: Record<string, unknown>;
    artifact_digest: string;
    size_bytes: number;
    workspace_version_id: string | null;
    workspace_manifest_digest: string | null;
    wait_id: string;
    number: number;
    status: WaitStatus;
    result: string | null;
    waited_seconds: number;
  }>`
    select k.id, k.manifest, k.artifact_digest, k.size_bytes, k.workspace_version_id,
      v.manifest_digest as workspace_manifest_digest, w.id as wait_id, w.number, w.status, w.result,
      extract(epoch from now() - w.created_at)::float8 as waited_seconds
    from run_checkpoints k join run_waits w on w.id = k.wait_id
    left join workspace_versions v on v.id = k.workspace_version_id where k.run_id = ${runId}`.execute(db);
  const row = rows[0];
  if (row === undefined) return undefined;
  const { workspace_version_id: versionId, workspace_manifest_digest: manifestDigest } = row;
  return {
    checkpointId: row.id,
    manifest: row.manifest,
    artifactDigest: row.artifact_digest,
    sizeBytes: row.size_bytes,
    workspaceVersion:
      versionId === null || manifestDigest === null ? undefined : { id: versionId, manifestDigest },
    wait: {
      id: row.wait_id,
      number: row.number,
      status: row.status,
      result: row.result,
      waitedSeconds: row.waited_seconds,
    },
  };
}

export interface FailedRestore extends LeaseRef {
  /** For the run's events, and its end when there is no other way. */
  readonly message: string;
  /** The checkpoint itself is bad (not this worker): no other one will restore it either. */
  readonly permanent: boolean;
}

/**
 * A worker could not restore the checkpoint of the run it leased: another try, on whichever worker, or, when the checkpoint
 * is bad or was tried `maxFailedRestores` times, a new attempt by the run's retry policy, from the start and the last saved
 * workspace; else the run fails.
 */
export async function failRestore(
  db: Queryable,
  input: FailedRestore,
): Promise<{ readonly status: "lost" } | ({ readonly status: "accepted" } & RunRef)> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRun>`select ${lockedColumns} from runs r
      where r.lease_id = ${input.leaseId} for update`.execute(tx);
    const run = rows[0];
    if (run === undefined || !holds(run, input)) return { status: "lost" } as const;
    const { rows: counted } = await sql<{ failed_restores: number }>`
      update run_checkpoints set failed_restores = failed_restores + 1,
        failed_on = array(select distinct unnest(failed_on || ${input.workerInstanceId}::uuid)) where run_id = ${run.id}
      returning failed_restores`.execute(tx);
    const failures = counted[0]?.failed_restores ?? maxFailedRestores;
    // A requested cancel wins (I7): withoutCheckpoint sees to it.
    const isOver = input.permanent || failures >= maxFailedRestores || run.cancel_requested_at !== null;
    const decision = isOver
      ? withoutCheckpoint(run, input, await currentVersion(tx, run.id))
      : tryAgain(input, failures);
    await settleRuns(tx, [{ run, decision }]);
    const ref = { runId: run.id, environmentId: run.environment_id, sessionId: run.session_id };
    return { status: "accepted", ...ref } as const;
  });
}

const restorePauseMs = 1000;

function tryAgain(input: FailedRestore, failures: number): Decision {
  return {
    status: "queued",
    executionStatus: "resume_queued",
    delayMs: restorePauseMs * 2 ** failures * Math.random(),
    events: [restoreFailed(input, { failed_restores: failures })],
  };
}

/** The files that a new attempt starts with; null: none. */
async function currentVersion(tx: Tx, runId: string): Promise<string | null> {
  const { rows } = await sql<{ id: string | null }>`select w.current_version_id as id
    from runs r join workspaces w on w.id = r.workspace_id where r.id = ${runId}`.execute(tx);
  return rows[0]?.id ?? null;
}

function withoutCheckpoint(run: LockedRun, input: FailedRestore, versionId: string | null): Decision {
  const decision = decideOutcome(run, {
    status: "failed",
    failureKind: "restore_failed",
    message: `parked wait: the saved guest could not be restored: ${input.message}`,
    detail: { name: "RestoreFailed" },
    retryable: true,
  });
  const attributes = { checkpoint: "discarded", workspace_version_id: versionId };
  return { ...decision, events: [restoreFailed(input, attributes), ...decision.events] };
}

function restoreFailed(input: FailedRestore, more: Record<string, unknown>) {
  return {
    kind: "run.restore_failed",
    severity: "warn",
    attributes: { message: input.message, ...more },
  } as const;
}
