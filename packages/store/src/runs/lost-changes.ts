/** What a lost run had changed in its workspace since it was last saved is lost with it: that is said, in run and workspace. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import type { NewEvent } from "../events.ts";
import type { Decision, LockedRun } from "./settle.ts";

/** The version that the workspace goes on from. */
export interface LastSave {
  readonly workspace_id: string;
  readonly saved_version_id: string | null;
  readonly saved_at: Date | null;
}

/** Of `r`. A run that goes on from its checkpoint goes on with the files of that instant. */
export const lastSaveColumns = sql`r.workspace_id,
  coalesce((select k.workspace_version_id from run_checkpoints k where k.run_id = r.id),
    (select w.current_version_id from workspaces w where w.id = r.workspace_id)) as saved_version_id,
  (select v.created_at from workspace_versions v where v.id = coalesce(
    (select k.workspace_version_id from run_checkpoints k where k.run_id = r.id),
    (select w.current_version_id from workspaces w where w.id = r.workspace_id))) as saved_at`;

/** Whether a task can have changed the files; what its worker had not begun has not. */
const mayHaveChanged = (run: LockedRun) => run.started_at !== null;

/** The decision with the event that says so, before those that end the attempt. */
export function withLostChanges(run: LockedRun & LastSave, decision: Decision): Decision {
  if (!mayHaveChanged(run)) return decision;
  const [first, ...rest] = decision.events;
  const lost: NewEvent = {
    kind: "run.workspace_changes_lost",
    severity: "warn",
    attributes: {
      workspace_id: run.workspace_id,
      ...(run.saved_version_id === null
        ? {}
        : { since_version_id: run.saved_version_id, since: run.saved_at?.toISOString() }),
    },
  };
  return { ...decision, events: [...(first === undefined ? [] : [first]), lost, ...rest] };
}

/** The runs are locked: their workspaces come after them. The worker's disk does not count any more. */
export async function noteLostChanges(tx: Tx, runs: readonly (LockedRun & LastSave)[]): Promise<void> {
  const ids = runs.filter(mayHaveChanged).map((run) => run.workspace_id);
  if (ids.length === 0) return;
  await sql`update workspaces set dirty_state = 'dirty_state_lost', worker_instance_id = null, updated_at = now()
    where id = any (array(select id from workspaces where id = any (${ids}::uuid[]) order by id for no key update))`.execute(
    tx,
  );
}
