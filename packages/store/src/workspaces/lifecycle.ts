/**
 * Workspaces and their saved versions. No code outside of this folder writes their columns, but session starts (which make
 * workspaces), claims (worker_instance_id) and the verbs of live copies.
 *
 *   state      enters by                                          leaves by
 *   active     createWorkspace, forkWorkspace, a session's start  archiveWorkspace
 *   archived   archiveWorkspace                                   purgeArchived, when auto_delete_at is over
 *   deleting   purgeArchived                                      purgeArchived, when nothing of it is left
 *   deleted    purgeArchived                                      never: the row goes with its environment
 *
 *   version    enters by                                          leaves by
 *   ready      recordVersion (the worker that holds it),          pruneVersions (system ones beyond the number that is
 *              recordUpload, restoreVersion, forkWorkspace        kept), purgeArchived, the end of the environment
 *
 * Invariants; the property tests in ../../test check them:
 *   W1  Versions are added to and removed from a workspace under the lock of its row, and never changed but for kind and
 *       message. Lock order: run, workspace, live copy, artifacts.
 *   W2  When a version is committed, each of its artifacts is stored and stays so: the lease that records it had it reserved,
 *       or a version of a locked workspace has it, or something refers to it while its lock is held (artifacts.ts).
 *   W3  current_version_id is a version of the workspace (or null: no files). Neither it nor a version that a checkpoint
 *       needs is removed from an active or archived workspace.
 *   W4  A worker's version counts only with the lease that holds the workspace. Everybody else's (upload, restore) only while
 *       no live copy and no run holds it: no claim of a queued run is under way (`lockFree`), and none reads an older version.
 *   W5  What a removed version had is noted for removal in the same transaction, unless another version of the same
 *       workspace has it.
 */
import { type RawBuilder, sql } from "kysely";
import type {
  WorkspaceDesiredState,
  WorkspaceDirtyState,
  WorkspaceState,
  WorkspaceVersionKind,
  WorkspaceVersionReason,
} from "../schema-workspaces.ts";

export interface WorkspaceRow {
  readonly id: string;
  readonly environment_id: string;
  readonly project_id: string;
  readonly deployment_sandbox_id: string;
  readonly sandbox_id: string;
  readonly sandbox_fingerprint: string;
  readonly external_id: string | null;
  readonly state: WorkspaceState;
  readonly desired_state: WorkspaceDesiredState;
  /** As readers see it: `dirty` while a run or a live copy has the files. */
  readonly dirty_state: WorkspaceDirtyState;
  readonly current_version_id: string | null;
  readonly last_materialization_id: string | null;
  readonly metadata: Record<string, unknown>;
  readonly tags: string[];
  readonly auto_stop_at: Date | null;
  readonly auto_delete_at: Date | null;
  readonly last_activity_at: Date;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly archived_at: Date | null;
  readonly deleted_at: Date | null;
}

export interface VersionRow {
  readonly id: string;
  readonly workspace_id: string;
  readonly parent_version_id: string | null;
  readonly kind: WorkspaceVersionKind;
  readonly reason: WorkspaceVersionReason;
  readonly run_id: string | null;
  readonly manifest_digest: string;
  readonly content_digest: string;
  readonly artifact_encoding: string;
  readonly artifact_entry_count: number;
  readonly size_bytes: number;
  readonly message: string | null;
  readonly promoted_at: Date | null;
  readonly created_at: Date;
}

/** What a stored tree is; a version is one of a workspace. */
export interface SavedTree {
  readonly manifestDigest: string;
  /** Of the tree, however it is packed. */
  readonly contentDigest: string;
  readonly artifactEncoding: string;
  readonly entryCount: number;
  readonly sizeBytes: number;
  /** The manifest and everything that it refers to. */
  readonly artifacts: readonly string[];
}

/** Holds the files: a run that has its guest, a live copy that is up. `w` is the workspace. */
const isHeld = sql`(exists (select from runs a where a.workspace_id = w.id and a.status in ('running', 'waiting')
    and a.lease_id is not null)
  or exists (select from workspace_materializations m where m.workspace_id = w.id and m.ended_at is null
    and m.state not in ('requested', 'materializing')))`;

/** Columns of `WorkspaceRow` of the alias `w`. */
export const workspaceColumns: RawBuilder<unknown> = sql`w.id, w.environment_id, w.project_id, w.deployment_sandbox_id,
  w.sandbox_id, w.sandbox_fingerprint, w.external_id, w.state, w.desired_state,
  case when ${isHeld} then 'dirty' else w.dirty_state end as dirty_state,
  w.current_version_id, w.last_materialization_id, w.metadata, w.tags, w.auto_stop_at, w.auto_delete_at,
  w.last_activity_at, w.created_at, w.updated_at, w.archived_at, w.deleted_at`;

/** Columns of `VersionRow` of the alias `v`. */
export const versionColumns: RawBuilder<unknown> = sql`v.id, v.workspace_id, v.parent_version_id, v.kind, v.reason,
  v.run_id, v.manifest_digest, v.content_digest, v.artifact_encoding, v.artifact_entry_count, v.size_bytes, v.message,
  v.promoted_at, v.created_at`;

/** What somebody made stays until they delete it; what runs left behind is pruned. */
export function versionKind(reason: WorkspaceVersionReason): WorkspaceVersionKind {
  return reason === "run" || reason === "stop" || reason === "checkpoint" ? "system" : "user";
}
