/**
 * claimRuns: the runs whose turn it is get a lease, with their events.
 *
 *   0 read what the worker has free (workers/capacity.ts): only what fits counts as claimable
 *   1 look at lanes that have queued runs (find-lanes.ts), without locks
 *   2 divide the wanted runs among them (turns.ts): fair between environments, by priority in each, fair between its lanes
 *   3 when one of the lanes is limited, in one transaction with the next step: lock the rows of their queues, in order (I6:
 *     claims of one limited queue take turns)
 *   4 claim the runs of these lanes (take-lanes.ts), those that can be claimed still
 *
 * Where one lane is all there is, as in an installation with one task under load, the next claim starts with step 4, which then
 * takes nothing when another lane has come up: looking costs about as much as claiming.
 *
 * A run whose workspace was last on another active worker is left to that worker for a while: it has the files on its
 * disk, the others restore the saved version; and for as long as it is active when its disk has what could not be saved. A run
 * that resumes goes to whichever worker can restore its checkpoint. A workspace in use blocks its other runs (I5: the unique
 * index decides the race between two claimers, and the loser claims again), and so does a live copy of its own
 * (M3 of ../materializations/lifecycle.ts; claim.ts there is what this races with). All that is `claimable` in claimable.ts.
 */
import { sql } from "kysely";
import { type Queryable, retryConflicts, sqlState, transaction, violatedConstraint } from "../database.ts";
import type { WorkspaceState } from "../schema-workspaces.ts";
import { isClaimLost, noneWhenLost, readOffer, type WorkerOffer } from "../workers/capacity.ts";
import { findLanes, maxDepth } from "./find-lanes.ts";
import { takeFromOnly, takeLanes } from "./take-lanes.ts";
import { ClaimTurns, type Taking } from "./turns.ts";

export interface ClaimInput {
  readonly workerInstanceId: string;
  /** Up to that many. */
  readonly limit: number;
  readonly leaseDurationMs: number;
}

/** What the worker needs, apart from the task's definition (`readTaskDefinition`) and secrets. */
export interface ClaimedRun {
  readonly id: string;
  readonly environment_id: string;
  readonly project_id: string;
  readonly session_id: string;
  readonly deployment_id: string;
  readonly deployment_task_id: string;
  readonly deployment_version: string;
  readonly workspace_id: string;
  readonly lease_id: string;
  readonly fencing: number;
  readonly attempt_id: string;
  readonly attempt_number: number;
  readonly max_duration_seconds: number;
  /** Set: resume from it (`readResume`). */
  readonly checkpoint_id: string | null;
  /** Already used of max_duration_seconds. */
  readonly active_ms: number;
  /** The worker had the workspace last; else what it may have of it on its disk is old. */
  readonly workspace_is_here: boolean;
  /** What it was not called clean for ends with the next save. */
  readonly workspace_is_dirty: boolean;
  readonly workspace_state: WorkspaceState;
  /** The files to start with; null: none. */
  readonly base_version_id: string | null;
  /** Null with an id: a restore was committed since the claim began, which sees the id (the row is locked) and not the version. */
  readonly base_manifest_digest: string | null;
  /** JSON texts. */
  readonly payload: string;
  readonly metadata: string;
  readonly queue_name: string;
  /** Since it could be leased. */
  readonly waited_seconds: number;
  readonly trace_context: string | null;
}

const maxClaim = maxDepth;
/**
 * What is looked at in each round, until a run is found: many environments may have queued runs and none that can be claimed,
 * and one may have many full lanes before an open one. What the last round did not reach is for the next claim.
 */
const rounds = [
  { environments: 16, window: 16 },
  { environments: 64, window: 32 },
  { environments: 16, window: 128 },
  { environments: 128, window: 16 },
  { environments: 16, window: 256 },
];

const turnsOfDatabases = new WeakMap<Queryable, ClaimTurns>();

/** Lease up to `limit` runs to the worker. `db` remembers whose turn it is: the pool, not a transaction. */
export async function claimRuns(db: Queryable, input: ClaimInput): Promise<ClaimedRun[]> {
  const limit = Math.min(maxClaim, Math.trunc(input.limit));
  if (!(limit > 0)) return [];
  const turns = turnsOfDatabases.get(db) ?? new ClaimTurns();
  turnsOfDatabases.set(db, turns);
  const once = () => claimOnce(db, turns, { ...input, limit });
  return await retryConflicts(once, isClaimLost).catch(noneWhenLost<ClaimedRun>);
}

async function claimOnce(db: Queryable, turns: ClaimTurns, input: ClaimInput): Promise<ClaimedRun[]> {
  const offer = await readOffer(db, input.workerInstanceId);
  if (offer === undefined || offer.freeSlots === 0) return [];
  const limit = Math.min(input.limit, offer.freeSlots);
  const place = turns.placeOf(input.workerInstanceId);
  const { onlyLane } = place;
  if (onlyLane !== undefined) {
    const claimed = await retryLosers(() => takeFromOnly(db, { ...input, ...offer, limit }, onlyLane));
    if (claimed.length > 0) {
      turns.served(onlyLane);
      return claimed;
    }
  }
  for (const { environments, window } of rounds) {
    const found = await findLanes(db, turns, {
      ...input,
      ...offer,
      environments,
      // Else a claim of many runs of as many keys would take several.
      window: Math.max(window, limit <= 16 ? 0 : maxClaim),
    });
    const [first, ...others] = found.open;
    place.onlyLane = found.isAll && others.length === 0 && first?.limited === false ? first : undefined;
    const takings = turns.choose(found.open, limit);
    if (takings.length > 0) {
      const claimed = await take(db, { ...input, ...offer, limit }, takings);
      turns.giveBack(takings, new Set(claimed.map((run) => run.environment_id)));
      if (claimed.length > 0) return claimed;
      // Others were faster: there may be more.
    } else if (found.isAll) break;
  }
  return [];
}

async function take(
  db: Queryable,
  input: ClaimInput & WorkerOffer,
  takings: readonly Taking[],
): Promise<ClaimedRun[]> {
  const limited = takings.filter(({ lane }) => lane.limited);
  return await retryLosers(async () => {
    if (limited.length === 0) return await takeLanes(db, input, takings, { queuesAreLocked: false });
    return await transaction(db, async (tx) => {
      await lockQueues(tx, limited);
      return await takeLanes(tx, input, takings, { queuesAreLocked: true });
    });
  });
}

/** I5: of two claimers of one workspace one loses; and two that lock rows in different orders may deadlock. */
async function retryLosers(run: () => Promise<ClaimedRun[]>): Promise<ClaimedRun[]> {
  return await retryConflicts(
    run,
    (error) => sqlState(error) === "40P01" || violatedConstraint(error) === "runs_active_in_workspace",
  );
}

/** In one order for all claimers, so that they cannot deadlock. */
async function lockQueues(db: Queryable, takings: readonly Taking[]): Promise<void> {
  await sql`select from queues where (environment_id, name) in (
      select * from unnest(${takings.map(({ lane }) => lane.environmentId)}::uuid[],
        ${takings.map(({ lane }) => lane.queueName)}::text[]))
    order by environment_id, name for update`.execute(db);
}
