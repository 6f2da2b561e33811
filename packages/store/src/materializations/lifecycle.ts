/**
 * The lifecycle of a workspace's live copy (materialization). No code outside of this folder writes its state, worker, lease
 * or fencing. There is a row only where somebody asked for the copy; a run that nobody looks into has none.
 *
 * A copy of its own (`run_id` is null): leased to a worker like a run.
 *
 *   state           enters by                          leaves by
 *   requested       requestMaterialization;            claimMaterializations, requestStop (ends at once),
 *                   finishMaterialization of a start   attachRequested (a run has the workspace by now),
 *                   that failed, twice at most         expireMaterializations (nobody took it, or nobody can)
 *   materializing   claimMaterializations              startMaterialization, requestStop, finishMaterialization, expire...
 *   running         startMaterialization               requestStop, finishMaterialization, expireMaterializations
 *   stopping        requestStop                        finishMaterialization, expireMaterializations
 *   stopped|failed|lost                                never: terminal
 *
 * A copy that is the guest of a run (`run_id`): its lease and fencing are the run's.
 *
 *   restoring       requestMaterialization of a run    bindRunCopies: a worker has the run by now; then as materializing
 *                   that is parked or to resume
 *   materializing   requestMaterialization of a run    startMaterialization, requestStop, finishMaterialization,
 *                   with a lease, attachRequested      leaveRunCopy (the run is parked), expireMaterializations
 *   running, stopping as above; a run that let go of its lease takes the copy with it
 *
 * Without a change of state: appendToMaterialization, the outbox's numbers, extendMaterializations (heartbeat).
 *
 * Locks, in this order wherever several are held: run, workspace, materialization, exec or pty. Sweeps and claims skip what
 * is locked.
 *
 * Invariants; the property test in ../../test/materialization-model.test.ts checks them after every step:
 *   M1  A workspace has at most one live row (a unique index), and at most one writer: an exec or pty that has not ended.
 *   M2  A write of a worker names materialization, fencing and worker, and the row is live; else nothing is written. Of a
 *       run's guest the run must hold the row's lease, too.
 *   M3  A workspace never has a leased copy of its own beside a run with a lease: a claim of the run sees the row, or the claim
 *       of the row sees the run (claim.ts).
 *   M4  What ends a live copy ends its execs, ptys, commands and questions in the same transaction.
 *   M5  Commands have growing numbers and reach the worker in their order; one that is acknowledged is gone.
 */
import type { Selectable } from "kysely";
import { sql } from "kysely";
import type { WorkspacesSchema } from "../schema-workspaces.ts";

export type MaterializationRow = Selectable<WorkspacesSchema["workspace_materializations"]>;

/** Starts of one live copy that may fail before it is given up. */
export const maxFailedStarts = 3;

/** What a worker's write names (M2). */
export interface MaterializationRef {
  readonly materializationId: string;
  readonly workerInstanceId: string;
  readonly fencing: number;
}

/** Whom to tell after the commit that a live copy ended: who follows or waits for what was in it. */
export interface EndedMaterialization {
  readonly materializationId: string;
  readonly workspaceId: string;
  readonly runId: string | null;
  readonly workerInstanceId: string | null;
  readonly workerGroupId: string;
  readonly state: "requested" | "stopped" | "failed" | "lost";
  readonly execIds: readonly string[];
  readonly ptyIds: readonly string[];
  readonly requestIds: readonly string[];
}

/** M2: of row `m` of a run, whether the run still has the lease; true of a copy of its own. */
export const heldByRun = sql<boolean>`(m.run_id is null or exists (
  select from runs r where r.id = m.run_id and r.lease_id = m.lease_id))`;

/** Of a workspace at most one run is one of these: it has the files. `r` is the run. */
export const activeRun = sql<boolean>`(r.status in ('running', 'waiting') or r.execution_status = 'resume_queued')`;

/** Of row `m`: the sandbox that it is brought up from is there. */
export const hasSandbox = sql<boolean>`(exists (
  select from deployment_sandboxes s where s.id = m.deployment_sandbox_id))`;

/** Of workspace `w`: no exec or pty is active. */
export const hasNoWriter = sql<boolean>`(
  not exists (select from workspace_execs e where e.workspace_id = w.id and e.state in ('queued', 'materializing', 'running'))
  and not exists (select from workspace_ptys p where p.workspace_id = w.id
    and p.state in ('creating', 'open', 'resizing', 'closing')))`;
