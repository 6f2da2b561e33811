/** Runs that are to go on and that no living worker can restore: they say so, once per checkpoint. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { appendRunEvents } from "../events.ts";
import type { RunRef } from "../runs/finish.ts";

interface Unresumable extends RunRef {
  readonly checkpoint_id: string;
  readonly compatibility: string;
}

/**
 * Note up to `limit` runs that are due to resume for `afterMs`, with no active worker of what their checkpoint needs. Returns
 * them, for hints.
 */
export async function noteUnresumable(
  db: Queryable,
  { limit, afterMs }: { readonly limit: number; readonly afterMs: number },
): Promise<RunRef[]> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<Unresumable>`
      select r.id as "runId", r.environment_id as "environmentId", r.session_id as "sessionId", k.id as checkpoint_id,
        k.manifest->>'compatibility' as compatibility
      from runs r join run_checkpoints k on k.run_id = r.id
      where r.execution_status = 'resume_queued' and not k.waiting_noted
        and r.available_at <= now() - ${afterMs}::float8 * interval '1 millisecond'
        and r.updated_at <= now() - ${afterMs}::float8 * interval '1 millisecond'
        and not exists (select from worker_instances i where i.state = 'active'
          and i.worker_group_id = r.worker_group_id
          and i.capabilities->>'checkpoint_compatibility' = k.manifest->>'compatibility')
      order by r.id limit ${limit}::integer for update of r skip locked`.execute(tx);
    for (const { runId, checkpoint_id: checkpointId, compatibility } of rows) {
      const message =
        "parked wait: no worker can restore this run's guest; it goes on when one of the same driver version and " +
        "processor is there that has the checkpoint key";
      await appendRunEvents(tx, runId, [
        { kind: "run.resume_waiting", severity: "warn", attributes: { message, compatibility } },
      ]);
      await sql`update run_checkpoints set waiting_noted = true where id = ${checkpointId}`.execute(tx);
    }
    return rows.map(({ runId, environmentId, sessionId }) => ({ runId, environmentId, sessionId }));
  });
}
