/**
 * claimMaterializations: a worker takes `requested` live copies.
 *
 * M3, against claimRuns, which leaves runs alone whose workspace has a live copy of its own. The claims of a run and of its
 * workspace's copy race in two ways:
 *
 *   the run's is in flight       it holds the lock of a queued run of the workspace: fewer of them can be locked here than
 *                                there are, and the copy is left for the next time, when the run has the workspace
 *   it read before the row was   it comes to the run after this claim is over. available_at of the queued runs was moved
 *   there, and locks afterwards  here to a time that is later than the start of any claim that cannot see the row: its
 *                                re-check of the changed run fails
 */
import { sql } from "kysely";
import { type Queryable, retryConflicts, type Tx, transaction } from "../database.ts";
import {
  ClaimLostError,
  claimLost,
  countClaim,
  fitsOffer,
  fittingTogether,
  isClaimLost,
  noneWhenLost,
  type OfferSql,
  offerSql,
  readOffer,
} from "../workers/capacity.ts";
import { activeRun, hasSandbox } from "./lifecycle.ts";

export interface ClaimMaterializations {
  readonly workerInstanceId: string;
  readonly limit: number;
  /** A copy whose worker is silent that long is lost. */
  readonly lostAfterMs: number;
}

/** What the worker needs to bring it up. */
export interface ClaimedMaterialization {
  readonly id: string;
  readonly environment_id: string;
  readonly workspace_id: string;
  readonly deployment_id: string;
  readonly lease_id: string;
  readonly fencing: number;
  /** deployment_sandboxes.definition. */
  readonly sandbox: unknown;
  readonly base_version_id: string | null;
  readonly manifest_digest: string | null;
  /** The worker had the workspace last, and what it has on its disk counts. */
  readonly is_here: boolean;
  /** What the workspace was not called clean for ends with the next save. */
  readonly is_dirty: boolean;
}

/** How long the worker that had the workspace before has the first right to it. */
const affinitySeconds = 2;

/** Lease up to `limit` copies to the worker, the longest waiting first. */
export async function claimMaterializations(
  db: Queryable,
  input: ClaimMaterializations,
): Promise<ClaimedMaterialization[]> {
  if (input.limit <= 0) return [];
  return await retryConflicts(async () => {
    const offer = await readOffer(db, input.workerInstanceId);
    if (offer === undefined || offer.freeSlots === 0) return [];
    const { rows: waiting } = await candidates(input, offerSql(offer)).execute(db);
    if (waiting.length === 0) return [];
    return await transaction(db, async (tx) => {
      const workspaceIds = await lockFree(
        tx,
        waiting.map((row) => row.workspace_id),
      );
      if (workspaceIds.length === 0) return [];
      return await take(tx, input, offerSql(offer), workspaceIds);
    });
  }, isClaimLost).catch(noneWhenLost<ClaimedMaterialization>);
}

/**
 * Unsaved files keep a workspace at its worker while that one lives. A copy whose sandbox is gone is nobody's: it fails
 * (expireMaterializations).
 */
function candidates({ workerInstanceId, limit }: ClaimMaterializations, offer: OfferSql) {
  return sql<{ workspace_id: string }>`
    select m.workspace_id from workspace_materializations m join workspaces w on w.id = m.workspace_id
    where m.state = 'requested' and ${fitsOffer("m", offer)} and ${hasSandbox}
      and (m.claim_attempt = 0 or m.updated_at <= now() - m.claim_attempt * interval '1 second')
      and (w.worker_instance_id is null or w.worker_instance_id = ${workerInstanceId}
        or (select i.state from worker_instances i where i.id = w.worker_instance_id) <> 'active'
        or (w.dirty_state <> 'capture_failed' and m.created_at <= now() - ${sql.lit(affinitySeconds)} * interval '1 second'))
    order by m.created_at limit ${limit}::integer`;
}

/** Lock the workspaces' queued runs and the workspaces themselves; those of which all could be locked and no run is active. */
async function lockFree(tx: Tx, workspaceIds: readonly string[]): Promise<string[]> {
  const { rows: locked } = await sql<{ workspace_id: string }>`
    select r.workspace_id from runs r where r.workspace_id = any (${workspaceIds}::uuid[]) and r.status = 'queued'
    order by r.id for update skip locked`.execute(tx);
  await sql`select from workspaces w where w.id = any (${workspaceIds}::uuid[]) order by w.id
    for no key update skip locked`.execute(tx);
  const lockedRuns = new Map<string, number>();
  for (const row of locked) lockedRuns.set(row.workspace_id, (lockedRuns.get(row.workspace_id) ?? 0) + 1);
  // A new snapshot: what was claimed until the locks were taken is seen.
  const { rows } = await sql<{ id: string; queued: number; active: boolean }>`
    select w.id, (select count(*) from runs r where r.workspace_id = w.id and r.status = 'queued') as queued,
      exists (select from runs r where r.workspace_id = w.id and ${activeRun}) as active
    from workspaces w where w.id = any (${workspaceIds}::uuid[]) and w.state = 'active'
    for no key update skip locked`.execute(tx);
  return rows
    .filter((row) => !row.active && row.queued === (lockedRuns.get(row.id) ?? 0))
    .map((row) => row.id);
}

async function take(
  tx: Tx,
  { workerInstanceId, lostAfterMs }: ClaimMaterializations,
  offer: OfferSql,
  workspaceIds: readonly string[],
): Promise<ClaimedMaterialization[]> {
  const { rows } = await sql<{ is_lost: boolean } & (ClaimedMaterialization | { id: null })>`
    with free as materialized (
      select m.id, m.created_at, m.needs_cpu, m.needs_memory_mib, m.needs_disk_mib from workspace_materializations m
      where m.workspace_id = any (${workspaceIds}::uuid[]) and m.state = 'requested' and ${fitsOffer("m", offer)}
        and ${hasSandbox} order by m.id for update skip locked
    ), chosen as materialized (${fittingTogether("free", sql`x.created_at, x.id`, offer)}
    ), counted as (${countClaim(sql`${workerInstanceId}`, offer)}
    ), claimed as (
      update workspace_materializations m set state = 'materializing', worker_instance_id = ${workerInstanceId},
        lease_id = gen_random_uuid(), fencing_generation = m.fencing_generation + 1, claim_attempt = m.claim_attempt + 1,
        append_number = 0, last_heartbeat_at = now(), updated_at = now(), base_version_id = w.current_version_id,
        reservation_expires_at = now() + ${lostAfterMs}::float8 * interval '1 millisecond'
      from workspaces w where w.id = m.workspace_id and m.id = any (array(select id from chosen))
        and exists (select from counted)
      returning m.*
    ), pinned as (
      update workspaces w set worker_instance_id = ${workerInstanceId}, updated_at = now(),
        dirty_state = case when w.dirty_state = 'capture_failed' and w.worker_instance_id is distinct from ${workerInstanceId}
          then 'dirty_state_lost' else w.dirty_state end
      where w.id = any (array(select workspace_id from claimed))
    ), later as (
      update runs r set available_at = clock_timestamp()
      where r.workspace_id = any (array(select workspace_id from claimed)) and r.status = 'queued'
        and r.available_at <= clock_timestamp()
    )
    select ${claimLost} as is_lost, q.* from (select 1) one left join (
    select c.id, c.environment_id, c.workspace_id, s.deployment_id, c.lease_id, c.fencing_generation as fencing,
      s.definition as sandbox, c.base_version_id, v.manifest_digest,
      coalesce(w.worker_instance_id = ${workerInstanceId} and w.dirty_state <> 'dirty_state_lost', false) as is_here,
      w.dirty_state <> 'clean' as is_dirty
    from claimed c join workspaces w on w.id = c.workspace_id join deployment_sandboxes s on s.id = c.deployment_sandbox_id
    left join workspace_versions v on v.id = c.base_version_id order by c.created_at) q on true`.execute(tx);
  if (rows[0]?.is_lost === true) throw new ClaimLostError();
  return rows.filter((row): row is { is_lost: boolean } & ClaimedMaterialization => row.id !== null);
}
