/** expireBuildLeases: builds whose worker is out of touch are queued again, or failed when they were tried enough. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { failOrRequeue } from "./finish.ts";
import type { BuildRef, LockedBuild } from "./lifecycle.ts";

/** Up to `limit` builds. With `workerInstanceId`: all of that worker, whenever their leases end. */
export async function expireBuildLeases(
  db: Queryable,
  { limit, workerInstanceId }: { limit: number; workerInstanceId?: string },
): Promise<(BuildRef & { readonly workerGroupId: string; readonly requeued: boolean })[]> {
  const isOver =
    workerInstanceId === undefined
      ? sql`lease_expires_at <= now()`
      : sql`worker_instance_id = ${workerInstanceId}`;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedBuild & { worker_group_id: string }>`
      select id, environment_id, worker_group_id, build_attempt, append_number, event_seq from deployments
      where lease_id is not null and ${isOver} order by id limit ${limit}::integer for update skip locked`.execute(
      tx,
    );
    const swept: (BuildRef & { workerGroupId: string; requeued: boolean })[] = [];
    for (const build of rows) {
      const requeued = await failOrRequeue(tx, build, {
        status: "failed",
        failureKind: "worker_lease_expired",
        message: "the worker that built it is out of touch",
        retryable: true,
      });
      const { id: deploymentId, environment_id: environmentId, worker_group_id: workerGroupId } = build;
      swept.push({ deploymentId, environmentId, workerGroupId, requeued });
    }
    return swept;
  });
}
