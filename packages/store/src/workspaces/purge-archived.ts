/** purgeArchived: the files of workspaces whose time is over, page by page; a crash anywhere goes on there. */
import { sql } from "kysely";
import { type Queryable, transaction } from "../database.ts";
import { emptyWorkspaces } from "./empty-workspaces.ts";

interface Due {
  readonly id: string;
  readonly state: string;
}

/**
 * One page of one archived workspace whose auto_delete_at is over. False when there is none. One with a run that has not ended
 * (its session got input after it was archived) waits for that: the run fails when it is claimed.
 */
export async function purgeArchived(db: Queryable): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<Due>`select w.id, w.state from workspaces w
      where w.auto_delete_at <= now() and w.state in ('archived', 'deleting')
        and not exists (select from runs r where r.workspace_id = w.id and r.status in ('queued', 'running', 'waiting'))
      order by w.auto_delete_at limit 1 for update skip locked`.execute(tx);
    const due = rows[0];
    if (due === undefined) return false;
    if (due.state === "archived") {
      await sql`update workspaces set state = 'deleting', desired_state = 'deleted', current_version_id = null,
        updated_at = now() where id = ${due.id}`.execute(tx);
    }
    if ((await emptyWorkspaces(tx, [due.id])) > 0) return true;
    await sql`update workspaces set state = 'deleted', deleted_at = now(), auto_delete_at = null, external_id = null,
      last_materialization_id = null, dirty_state = 'clean', updated_at = now() where id = ${due.id}`.execute(
      tx,
    );
    return true;
  });
}
