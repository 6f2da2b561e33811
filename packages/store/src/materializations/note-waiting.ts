/** Runs that wait for their workspace because somebody works in its live copy: they say so, once. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { appendRunEvents } from "../events.ts";
import type { RunRef } from "../runs/finish.ts";

interface WaitingRun extends RunRef {
  readonly workspace_id: string;
  readonly materialization_id: string;
}

/** Note up to `limit` runs that are due for `afterMs` and whose workspace has a live copy of its own. Returns them, for hints. */
export async function noteWaitingForWorkspace(
  db: Queryable,
  { limit, afterMs }: { readonly limit: number; readonly afterMs: number },
): Promise<RunRef[]> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<WaitingRun>`
      select r.id as "runId", r.environment_id as "environmentId", r.session_id as "sessionId", r.workspace_id,
        m.id as materialization_id
      from workspace_materializations m join runs r on r.workspace_id = m.workspace_id
      where m.ended_at is null and m.run_id is null and r.status = 'queued'
        and r.available_at <= now() - ${afterMs}::float8 * interval '1 millisecond'
        and not exists (select from run_events e where e.run_id = r.id and e.kind = 'run.waiting_for_workspace')
      order by r.id limit ${limit}::integer for update of r skip locked`.execute(tx);
    for (const { runId, workspace_id, materialization_id } of rows) {
      const message =
        "somebody works in the run's workspace; the run starts when their commands and terminals have ended";
      await appendRunEvents(tx, runId, [
        {
          kind: "run.waiting_for_workspace",
          attributes: { message, workspace_id, materialization_id },
        },
      ]);
    }
    return rows.map(({ runId, environmentId, sessionId }) => ({ runId, environmentId, sessionId }));
  });
}
