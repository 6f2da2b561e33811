/** Which saved files a request means (contract 7.7). */
import { codedError } from "@helmr/api";
import { openVersion, type VersionReader } from "@helmr/artifacts/versions";
import { getVersion, getWorkspace, type Scope, type VersionRow, type WorkspaceRow } from "@helmr/store";
import type { Context } from "../context.ts";
import { found } from "../routes/found.ts";
import { emptyTree } from "./empty-tree.ts";

/** `version` is undefined of a workspace that was never saved. */
export interface SavedSource {
  readonly workspace: WorkspaceRow;
  readonly version: VersionRow | undefined;
  readonly tree: VersionReader;
}

/** The version with this id, or the current one. Throws ApiError 404, and what opening a version throws. */
export async function openSaved(
  { db, artifacts, manifests }: Context,
  scope: Scope,
  workspaceId: string,
  versionId?: string,
): Promise<SavedSource> {
  const workspace = found(await getWorkspace(db, scope, workspaceId), "workspace");
  const wanted = versionId ?? workspace.current_version_id ?? undefined;
  if (wanted === undefined) {
    const isGone = workspace.state === "deleting" || workspace.state === "deleted";
    if (isGone) throw codedError("workspace_version_missing", "the workspace's files are removed");
    return { workspace, version: undefined, tree: await emptyTree() };
  }
  const version = found(await getVersion(db, scope, workspaceId, wanted), "version");
  return { workspace, version, tree: await openVersion(artifacts, version.manifest_digest, manifests) };
}
