/** Workspaces (contract 7): the objects, what creates and changes them, their live copies. */
import { z } from "zod";
import { parseDurationMs } from "../duration.ts";
import { externalId, idempotencyKey, limit, metadata, tags, uuid } from "./values.ts";

export const workspaceStates = ["active", "deleting", "recovery_required", "archived", "deleted"] as const;
const desiredStates = ["active", "stopped", "archived", "deleted"] as const;
const dirtyStates = ["clean", "dirty", "capturing", "capture_failed", "dirty_state_lost"] as const;
/** `requested` to `stopping` are live; `pausing` and `paused` belong to drivers that can hold a guest. */
const materializationStates = [
  "requested",
  "materializing",
  "restoring",
  "running",
  "pausing",
  "paused",
  "capturing",
  "stopping",
  "stopped",
  "lost",
  "failed",
] as const;

export const workspace = z.strictObject({
  id: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  deployment_sandbox_id: z.string(),
  sandbox_id: z.string(),
  sandbox_fingerprint: z.string(),
  external_id: z.string().optional(),
  current_version_id: z.string().optional(),
  state: z.enum(workspaceStates),
  desired_state: z.enum(desiredStates),
  dirty_state: z.enum(dirtyStates),
  last_materialization_id: z.string().optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
  tags: z.array(z.string()).optional(),
  auto_stop_at: z.string().optional(),
  auto_archive_at: z.string().optional(),
  auto_delete_at: z.string().optional(),
  last_activity_at: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
  archived_at: z.string().optional(),
  deleted_at: z.string().optional(),
});
export const workspaceEnvelope = z.strictObject({ workspace });
export const createdWorkspace = z.strictObject({ workspace, is_cached: z.literal(true).optional() });
export const workspaceList = z.strictObject({ workspaces: z.array(workspace) });

export const materialization = z.strictObject({
  id: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  workspace_id: z.string(),
  deployment_sandbox_id: z.string(),
  base_version_id: z.string().optional(),
  worker_instance_id: z.string().optional(),
  state: z.enum(materializationStates),
  claim_attempt: z.int(),
  fencing_generation: z.int(),
  dirty_generation: z.int(),
  reservation_expires_at: z.string().optional(),
  last_heartbeat_at: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type Materialization = z.infer<typeof materialization>;
/** `no_active_materialization`: there was nothing to stop. */
export const workspaceStop = z.strictObject({
  workspace_id: z.string(),
  state: z.enum([...materializationStates, "no_active_materialization"]),
  materialization: materialization.optional(),
});

/** No days: contract 7.2 takes this duration without the unit `d`. */
const ttl = z.string().refine((text) => !text.includes("d") && parseDurationMs(text) !== undefined, {
  error: "must be a positive duration like 90s, 45m or 24h",
});
const sandboxId = z.string().trim().min(1, "must not be empty").max(128);

export const workspaceCreateRequest = z.strictObject({
  sandbox_id: sandboxId,
  /** Default: the current deployment. */
  deployment_id: uuid.optional(),
  external_id: externalId.optional(),
  metadata: metadata.optional(),
  tags: tags.optional(),
  idempotency_key: idempotencyKey.optional(),
  /** Default 24 h. */
  idempotency_key_ttl: ttl.optional(),
});
export const workspaceUpdateRequest = z.strictObject({
  metadata: metadata.optional(),
  tags: tags.optional(),
});
export const workspaceStopRequest = z.strictObject({
  idempotency_key: idempotencyKey.optional(),
  idempotency_key_ttl: ttl.optional(),
});
/** A new workspace of the same sandbox with the files of a version (default: the current one). */
export const workspaceForkRequest = z.strictObject({
  version_id: uuid.optional(),
  external_id: externalId.optional(),
  metadata: metadata.optional(),
  tags: tags.optional(),
});
export const workspaceListQuery = z.object({
  state: z.enum(workspaceStates).optional(),
  external_id: externalId.optional(),
  tag: z.string().trim().min(1).max(128).optional(),
  limit: limit.optional(),
});
/** `{}`. */
export const emptyRequest = z.strictObject({});
export const workspaceParams = z.object({ workspaceID: uuid });
