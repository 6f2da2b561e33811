/** What somebody changes about a workspace itself: metadata and tags, and that it is archived. */
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, transaction } from "../database.ts";
import { jsonbText } from "../json.ts";
import type { ActingScope } from "../scope.ts";
import { type WorkspaceRow, workspaceColumns } from "./lifecycle.ts";
import { lockWorkspace, requireFree } from "./lock.ts";
import { getWorkspace } from "./read-workspaces.ts";

export interface WorkspaceChanges {
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

/** Replaces what is given. Undefined when there is no such workspace; throws workspace_not_active. */
export async function updateWorkspace(
  db: Queryable,
  scope: ActingScope,
  id: string,
  { metadata, tags }: WorkspaceChanges,
): Promise<WorkspaceRow | undefined> {
  return await transaction(db, async (tx) => {
    const locked = await lockWorkspace(tx, scope, id);
    if (locked === undefined) return undefined;
    if (locked.state !== "active") throw codedError("workspace_not_active");
    const metadataText = metadata === undefined ? null : jsonbText(metadata);
    const { rows } = await sql<WorkspaceRow>`
      update workspaces w set metadata = coalesce(${metadataText}::jsonb, metadata),
        tags = coalesce(${tags === undefined ? null : [...tags]}::text[], tags), updated_at = now()
      where id = ${id} returning ${workspaceColumns}`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "workspace.update", resourceId: id });
    return rows[0];
  });
}

/**
 * Archive the workspace: nothing uses it any more, its files go after `deleteAfterMs`. Archived already, it is answered as it
 * is. Undefined when there is no such workspace; throws workspace_in_use while a live copy or a run that has not ended uses it.
 */
export async function archiveWorkspace(
  db: Queryable,
  scope: ActingScope,
  id: string,
  deleteAfterMs: number,
): Promise<WorkspaceRow | undefined> {
  return await transaction(db, async (tx) => {
    const locked = await lockWorkspace(tx, scope, id);
    if (locked === undefined) return undefined;
    if (locked.state !== "active" && locked.state !== "recovery_required") {
      return await getWorkspace(tx, scope, id);
    }
    await requireFree(tx, { ...locked, state: "active" });
    const queued =
      await sql`select from runs where workspace_id = ${id} and status = 'queued' limit 1`.execute(tx);
    if (queued.rows.length > 0) throw codedError("workspace_in_use");
    const { rows } = await sql<WorkspaceRow>`
      update workspaces w set state = 'archived', desired_state = 'archived', archived_at = now(), auto_stop_at = null,
        auto_delete_at = now() + ${deleteAfterMs}::float8 * interval '1 millisecond', updated_at = now()
      where id = ${id} returning ${workspaceColumns}`.execute(tx);
    await recordScopeAudit(tx, scope, { action: "workspace.archive", resourceId: id });
    return rows[0];
  });
}
