/** leaveRunCopy: the run is about to be parked, and its guest saved and gone. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { endMaterialization } from "./end.ts";
import type { EndedMaterialization, MaterializationRow } from "./lifecycle.ts";

/**
 * End the run's live copy, unless an exec or pty is active in it. The run is locked: who makes one locks it, too, so that
 * none begins meanwhile.
 */
export async function leaveRunCopy(
  tx: Tx,
  run: { readonly id: string; readonly workspace_id: string },
): Promise<EndedMaterialization | "in use" | undefined> {
  const { rows: live } = await sql`select from workspace_materializations where run_id = ${run.id}
    and ended_at is null`.execute(tx);
  if (live.length === 0) return undefined;
  await sql`select from workspaces where id = ${run.workspace_id} for no key update`.execute(tx);
  const { rows } = await sql<MaterializationRow & { in_use: boolean }>`
    select m.*, exists (select from workspace_execs e where e.workspace_id = m.workspace_id
        and e.state in ('queued', 'materializing', 'running'))
      or exists (select from workspace_ptys p where p.workspace_id = m.workspace_id
        and p.state in ('creating', 'open', 'resizing', 'closing')) as in_use
    from workspace_materializations m where m.run_id = ${run.id} and m.ended_at is null for update of m`.execute(
    tx,
  );
  const row = rows[0];
  if (row === undefined) return undefined;
  return row.in_use ? "in use" : await endMaterialization(tx, row, { state: "stopped" });
}
