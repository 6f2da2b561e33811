/** What every write of a worker to a live copy begins with (M2). */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { heldByRun, type MaterializationRef, type MaterializationRow } from "./lifecycle.ts";

/** Lock the row; undefined when it is not this worker's, or the fencing is of an earlier lease, or it has ended. */
export async function holdMaterialization(
  tx: Tx,
  { materializationId, workerInstanceId, fencing }: MaterializationRef,
): Promise<MaterializationRow | undefined> {
  const { rows } = await sql<MaterializationRow>`
    select m.* from workspace_materializations m where m.id = ${materializationId}
      and m.worker_instance_id = ${workerInstanceId} and m.fencing_generation = ${fencing} and m.ended_at is null
      and ${heldByRun} for no key update of m`.execute(tx);
  return rows[0];
}

/** The same with the workspace locked before it, for what changes the workspace too. */
export async function holdInWorkspace(
  tx: Tx,
  ref: MaterializationRef,
): Promise<MaterializationRow | undefined> {
  await sql`select from workspaces where id = (
    select workspace_id from workspace_materializations where id = ${ref.materializationId}) for no key update`.execute(
    tx,
  );
  return await holdMaterialization(tx, ref);
}
