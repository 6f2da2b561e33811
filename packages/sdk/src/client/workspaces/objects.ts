/** Workspaces and their live copies as the client returns them (contract 7.1). */
import { numberOrNull, objectOrEmpty, textList, wireObject, wireText } from "../wire.ts";
import { optionalText } from "./target.ts";

export type WorkspaceState = "active" | "deleting" | "recovery_required" | "archived" | "deleted";
export type WorkspaceDesiredState = "active" | "stopped" | "archived" | "deleted";
export type WorkspaceDirtyState = "clean" | "dirty" | "capturing" | "capture_failed" | "dirty_state_lost";
export type WorkspaceMaterializationState =
  | "requested"
  | "materializing"
  | "restoring"
  | "running"
  | "pausing"
  | "paused"
  | "capturing"
  | "stopping"
  | "stopped"
  | "lost"
  | "failed";

export interface Workspace {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly deploymentSandboxId: string;
  readonly sandboxId: string;
  readonly sandboxFingerprint: string;
  readonly externalId?: string;
  /** Of the saved version that counts; absent before the first. */
  readonly currentVersionId?: string;
  readonly state: WorkspaceState;
  readonly desiredState: WorkspaceDesiredState;
  readonly dirtyState: WorkspaceDirtyState;
  readonly lastMaterializationId?: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly tags: readonly string[];
  /** Timestamps are RFC 3339 texts in UTC. */
  readonly autoStopAt?: string;
  readonly autoArchiveAt?: string;
  readonly autoDeleteAt?: string;
  readonly lastActivityAt: string;
  readonly createdAt: string;
  readonly updatedAt: string;
  readonly archivedAt?: string;
  readonly deletedAt?: string;
}

/** The live copy of a workspace on one worker. */
export interface WorkspaceMaterialization {
  readonly id: string;
  readonly projectId: string;
  readonly environmentId: string;
  readonly workspaceId: string;
  readonly deploymentSandboxId: string;
  readonly baseVersionId?: string;
  readonly workerInstanceId?: string;
  readonly state: WorkspaceMaterializationState;
  readonly claimAttempt: number;
  readonly fencingGeneration: number;
  readonly dirtyGeneration: number;
  readonly reservationExpiresAt?: string;
  readonly lastHeartbeatAt?: string;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface WorkspaceStop {
  readonly workspaceId: string;
  /** `no_active_materialization`: there was nothing to stop. */
  readonly state: WorkspaceMaterializationState | "no_active_materialization";
  readonly materialization?: WorkspaceMaterialization;
}

export function workspaceOf(value: unknown): Workspace {
  const workspace = wireObject(value, "workspace");
  const text = (key: string): string => wireText(workspace, key, "workspace");
  return Object.freeze({
    id: text("id"),
    projectId: text("project_id"),
    environmentId: text("environment_id"),
    deploymentSandboxId: text("deployment_sandbox_id"),
    sandboxId: text("sandbox_id"),
    sandboxFingerprint: text("sandbox_fingerprint"),
    ...optionalText(workspace, "external_id", "externalId"),
    ...optionalText(workspace, "current_version_id", "currentVersionId"),
    state: text("state") as WorkspaceState,
    desiredState: text("desired_state") as WorkspaceDesiredState,
    dirtyState: text("dirty_state") as WorkspaceDirtyState,
    ...optionalText(workspace, "last_materialization_id", "lastMaterializationId"),
    metadata: objectOrEmpty(workspace, "metadata"),
    tags: textList(workspace, "tags"),
    ...optionalText(workspace, "auto_stop_at", "autoStopAt"),
    ...optionalText(workspace, "auto_archive_at", "autoArchiveAt"),
    ...optionalText(workspace, "auto_delete_at", "autoDeleteAt"),
    lastActivityAt: text("last_activity_at"),
    createdAt: text("created_at"),
    updatedAt: text("updated_at"),
    ...optionalText(workspace, "archived_at", "archivedAt"),
    ...optionalText(workspace, "deleted_at", "deletedAt"),
  });
}

export function materializationOf(value: unknown): WorkspaceMaterialization {
  const copy = wireObject(value, "materialization");
  const text = (key: string): string => wireText(copy, key, "materialization");
  return Object.freeze({
    id: text("id"),
    projectId: text("project_id"),
    environmentId: text("environment_id"),
    workspaceId: text("workspace_id"),
    deploymentSandboxId: text("deployment_sandbox_id"),
    ...optionalText(copy, "base_version_id", "baseVersionId"),
    ...optionalText(copy, "worker_instance_id", "workerInstanceId"),
    state: text("state") as WorkspaceMaterializationState,
    claimAttempt: numberOrNull(copy, "claim_attempt") ?? 0,
    fencingGeneration: numberOrNull(copy, "fencing_generation") ?? 0,
    dirtyGeneration: numberOrNull(copy, "dirty_generation") ?? 0,
    ...optionalText(copy, "reservation_expires_at", "reservationExpiresAt"),
    ...optionalText(copy, "last_heartbeat_at", "lastHeartbeatAt"),
    createdAt: text("created_at"),
    updatedAt: text("updated_at"),
  });
}

export function stopOf(value: unknown): WorkspaceStop {
  const stop = wireObject(value, "workspace stop");
  return Object.freeze({
    workspaceId: wireText(stop, "workspace_id", "workspace stop"),
    state: wireText(stop, "state", "workspace stop") as WorkspaceStop["state"],
    ...(stop.materialization === undefined
      ? {}
      : { materialization: materializationOf(stop.materialization) }),
  });
}
