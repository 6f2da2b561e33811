/** Versions that somebody makes without a live copy: uploaded files, and an earlier version made current again. */
import { ApiError, codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import { type Queryable, type Tx, transaction } from "../database.ts";
import type { ActingScope } from "../scope.ts";
import { treeOf } from "./create-workspace.ts";
import { insertVersion, noteUnreserved, takeArtifacts } from "./insert-version.ts";
import type { SavedTree, VersionRow } from "./lifecycle.ts";
import { lockWorkspace, requireFree } from "./lock.ts";
import { getVersion } from "./read-workspaces.ts";

export interface RecordUpload {
  readonly workspaceId: string;
  /** Under which the tree's artifacts were reserved. */
  readonly leaseId: string;
  /** The version that the files were put over. */
  readonly baseVersionId: string | undefined;
  readonly tree: SavedTree;
  readonly message?: string | undefined;
  /** For the audit record. */
  readonly what: Readonly<Record<string, unknown>>;
}

/** Undefined when there is no such workspace; throws workspace_not_active and workspace_in_use. */
export async function requireFreeWorkspace(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const workspace = await lockWorkspace(tx, scope, workspaceId);
    if (workspace === undefined) return false;
    await requireFree(tx, workspace);
    return true;
  });
}

/**
 * Record the saved tree as the current version. Undefined when there is no such workspace; throws workspace_not_active,
 * workspace_in_use (also when the current version is another than the base meanwhile), `ArtifactsNotReservedError`.
 */
export async function recordUpload(
  db: Queryable,
  scope: ActingScope,
  upload: RecordUpload,
): Promise<VersionRow | undefined> {
  return await transaction(db, async (tx) => {
    const workspace = await lockWorkspace(tx, scope, upload.workspaceId);
    if (workspace === undefined) return undefined;
    await requireFree(tx, workspace);
    const current = workspace.current_version_id ?? undefined;
    if (current !== upload.baseVersionId) {
      const message = "the workspace's files were changed while this was uploaded; upload it again";
      throw codedError("workspace_in_use", message);
    }
    const artifacts = [...new Set([upload.tree.manifestDigest, ...upload.tree.artifacts])];
    await takeArtifacts(tx, artifacts, { leaseId: upload.leaseId, inherit: current });
    const version = await insertVersion(
      tx,
      {
        workspaceId: workspace.id,
        environmentId: scope.environmentId,
        parentVersionId: current,
        reason: "upload",
        message: upload.message,
        tree: upload.tree,
      },
      artifacts,
    );
    await audit(tx, scope, "workspace.upload", version, upload.what);
    return version;
  }).catch(noteUnreserved(db));
}

/**
 * Make the files of an earlier version the current ones, as a new version. Undefined when there is no such workspace; throws
 * ApiError 404 for a version that it does not have, workspace_not_active, workspace_in_use.
 */
export async function restoreVersion(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  versionId: string,
  message: string | undefined,
): Promise<VersionRow | undefined> {
  return await transaction(db, async (tx) => {
    const workspace = await lockWorkspace(tx, scope, workspaceId);
    if (workspace === undefined) return undefined;
    const earlier = await getVersion(tx, scope, workspaceId, versionId);
    if (earlier === undefined) throw new ApiError(404, "version not found");
    await requireFree(tx, workspace);
    const version = await insertVersion(
      tx,
      {
        workspaceId,
        environmentId: scope.environmentId,
        parentVersionId: workspace.current_version_id ?? undefined,
        reason: "restore",
        message,
        tree: treeOf(earlier),
      },
      { of: earlier.id },
    );
    await audit(tx, scope, "workspace.restore", version, { from_version_id: versionId });
    return version;
  });
}

/** The disk of the worker that had the workspace last is of another version now. */
async function audit(
  tx: Tx,
  scope: ActingScope,
  action: "workspace.upload" | "workspace.restore",
  version: VersionRow,
  attributes: Readonly<Record<string, unknown>>,
): Promise<void> {
  await sql`update workspaces set worker_instance_id = null where id = ${version.workspace_id}`.execute(tx);
  await recordScopeAudit(tx, scope, {
    action,
    resourceId: version.workspace_id,
    attributes: { version_id: version.id, ...attributes },
  });
}
