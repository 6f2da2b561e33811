/**
 * pauseQueue and resumeQueue: an operator's hand on a queue. A pause belongs to the environment and the name, not to the
 * deployment: it stays through promotions, also through one that leaves the queue out.
 *
 * A paused queue starts no run, a retry neither: claims pass over its lanes (claimable.ts). What has started goes on, and a
 * parked run that resumes does too. Runs are still queued, and expire by their ttl.
 */
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, transaction } from "../database.ts";
import type { ActingScope } from "../scope.ts";
import { listQueues, type QueueRow } from "./read-queues.ts";

/** Claims that are under way may still start a run. One that is paused stays as it is. Undefined: there is no such queue. */
export async function pauseQueue(
  db: Queryable,
  scope: ActingScope,
  name: string,
): Promise<QueueRow | undefined> {
  return await transaction(db, async (tx) => {
    const [queue] = await listQueues(tx, scope, name);
    if (queue === undefined) return undefined;
    const { rows } = await sql<{ paused_at: Date }>`insert into paused_queues (environment_id, name)
      values (${scope.environmentId}, ${name}) on conflict do nothing returning paused_at`.execute(tx);
    if (rows[0] === undefined) return queue;
    await recordScopeAudit(tx, scope, { action: "queue.pause", resourceId: name });
    return { ...queue, paused_at: rows[0].paused_at };
  });
}

export interface ResumedQueue {
  readonly queue: QueueRow;
  /** Groups with queued runs of the environment, whose workers should look now. */
  readonly workerGroupIds: readonly string[];
}

/** One that is not paused stays as it is. Undefined: there is no such queue. */
export async function resumeQueue(
  db: Queryable,
  scope: ActingScope,
  name: string,
): Promise<ResumedQueue | undefined> {
  return await transaction(db, async (tx) => {
    const [queue] = await listQueues(tx, scope, name);
    if (queue === undefined) return undefined;
    const { rows } =
      await sql`delete from paused_queues where environment_id = ${scope.environmentId} and name = ${name}
      returning name`.execute(tx);
    if (rows.length === 0) return { queue, workerGroupIds: [] };
    await recordScopeAudit(tx, scope, { action: "queue.resume", resourceId: name });
    const groups = await sql<{ id: string }>`select g.id from worker_groups g
      where (select true from runs r where r.status = 'queued' and r.worker_group_id = g.id
        and r.environment_id = ${scope.environmentId} limit 1)`.execute(tx);
    return { queue: { ...queue, paused_at: null }, workerGroupIds: groups.rows.map(({ id }) => id) };
  });
}
