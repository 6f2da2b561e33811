/** noteUnsaved: a run's worker could not save its files: its disk has what no version has. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { LeaseRef } from "../runs/finish.ts";

/**
 * The workspace is kept for that worker while it is active (runs/claim.ts, materializations/claim.ts); when another one takes it,
 * the changes count as lost. Nothing happens without the lease.
 */
export async function noteUnsaved(db: Queryable, lease: LeaseRef): Promise<void> {
  await sql`update workspaces w set dirty_state = 'capture_failed', updated_at = now()
    from runs r where r.lease_id = ${lease.leaseId} and r.fencing = ${lease.fencing}
      and r.worker_instance_id = ${lease.workerInstanceId} and w.id = r.workspace_id`.execute(db);
}
