/** Deployments and what the current one declares: tasks and sandboxes (contract 9). */
import { z } from "zod";
import { limit, reason, uuid } from "./values.ts";

export const bundleFormatVersion = 2;
export const deploymentSourceMediaType = "application/vnd.helmr.deployment-source.v0.tar";
export const maxUploadBytes = 128 * 1024 * 1024;
export const deploymentStatuses = ["queued", "building", "deployed", "failed"] as const;

export const task = z.strictObject({
  id: z.string(),
  task_id: z.string(),
  file_path: z.string().optional(),
  export_name: z.string().optional(),
  handler_entrypoint: z.string().optional(),
  bundle_digest: z.string().optional(),
  bundle_format_version: z.int(),
  queue_name: z.string().optional(),
  concurrency_limit: z.int().optional(),
  ttl: z.string().optional(),
  created_at: z.string(),
});
export type Task = z.infer<typeof task>;
export const taskList = z.strictObject({ tasks: z.array(task) });
export const taskParams = z.object({ taskID: z.string() });

export const sandbox = z.strictObject({
  id: z.string(),
  deployment_id: z.string(),
  sandbox_id: z.string(),
  fingerprint: z.string(),
  image_artifact_id: z.string(),
  image_artifact_format: z.string(),
  rootfs_digest: z.string(),
  image_digest: z.string(),
  image_format: z.string(),
  workspace_mount_path: z.string(),
  resource_floor: z.strictObject({ milli_cpu: z.int(), memory_mib: z.int() }).optional(),
  disk_floor_mib: z.int(),
  network_policy: z
    .strictObject({ internet: z.boolean(), allow: z.array(z.string()), deny: z.array(z.string()) })
    .optional(),
  runtime_abi: z.string(),
  guestd_abi: z.string(),
  adapter_abi: z.string(),
  filesystem_format: z.string(),
  default_uid: z.int().optional(),
  default_gid: z.int().optional(),
  default_workdir: z.string(),
  contract_version: z.int(),
  created_at: z.string(),
});
export type Sandbox = z.infer<typeof sandbox>;
export const sandboxList = z.strictObject({ sandboxes: z.array(sandbox) });
export const sandboxParams = z.object({ sandboxID: z.string() });

/** Times that have not come are null. `tasks` is filled by get, empty in lists, null in the answer to a promotion. */
export const deployment = z.strictObject({
  id: z.string(),
  version: z.string(),
  api_version: z.string(),
  sdk_version: z.string().optional(),
  cli_version: z.string().optional(),
  bundle_format_version: z.int(),
  worker_protocol_version: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  content_hash: z.string(),
  deployment_source: z.strictObject({
    digest: z.string(),
    size_bytes: z.int().optional(),
    media_type: z.string().optional(),
  }),
  build_manifest_digest: z.string().optional(),
  deployment_manifest_digest: z.string().optional(),
  status: z.enum(deploymentStatuses),
  error: z.looseObject({ message: z.string().optional() }).optional(),
  tasks: z.array(task).nullable(),
  created_at: z.string(),
  building_at: z.string().nullable(),
  built_at: z.string().nullable(),
  deployed_at: z.string().nullable(),
  failed_at: z.string().nullable(),
});
export type Deployment = z.infer<typeof deployment>;
export const deploymentList = z.strictObject({ deployments: z.array(deployment) });
export const currentDeployment = z.strictObject({ deployment: deployment.nullable() });
export const deploymentListQuery = z.object({ limit: limit.optional() });
export const deploymentParams = z.object({ deploymentID: uuid });
/** A promotion names the deployment by UUID or version. */
export const promotionParams = z.object({ deployment: z.string().max(64) });
export const promotionRequest = z.strictObject({ reason: reason.optional() });

/** The `metadata` part of an upload. Scope comes from the credential: the two id fields may only be empty. */
export const deploymentUploadMetadata = z.strictObject({
  project_id: z.literal("", { error: "must be empty; the credential names the project" }).optional(),
  environment_id: z.literal("", { error: "must be empty; the credential names the environment" }).optional(),
  content_hash: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, { error: "must be sha256:<64 lower-case hex digits> of the tar" }),
  api_version: z.string().optional(),
  sdk_version: z.string().max(128).optional(),
  cli_version: z.string().max(128).optional(),
  bundle_format_version: z.int().optional(),
  worker_protocol_version: z.string().optional(),
});
export type DeploymentUploadMetadata = z.infer<typeof deploymentUploadMetadata>;
