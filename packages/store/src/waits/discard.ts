/** Checkpoints that a worker has stored and cannot tell about: those that no run refers to are noted for removal. */
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import { discardArtifacts } from "../deletion/artifacts.ts";

/**
 * Of these artifacts, stored under these leases: those that no checkpoint refers to go on the list of what is removed.
 * Returns the ones that are settled so, or referred to. One whose lease is not over is left: its worker may have asked to
 * record it, and after the lease nobody can.
 */
export async function discardUnrecorded(
  db: Queryable,
  artifacts: readonly { readonly digest: string; readonly leaseId: string }[],
): Promise<string[]> {
  const { rows } = await sql<{ digest: string }>`
    with over as materialized (
      select u.digest from unnest(${artifacts.map(({ digest }) => digest)}::text[],
        ${artifacts.map(({ leaseId }) => leaseId)}::uuid[]) u (digest, lease_id)
      where not exists (select from runs r where r.lease_id = u.lease_id)
    ), discarded as (
      ${discardArtifacts(sql`select o.digest from over o
        where not exists (select from run_checkpoints k where k.artifact_digest = o.digest)`)}
    )
    select digest from over`.execute(db);
  return rows.map(({ digest }) => digest);
}
