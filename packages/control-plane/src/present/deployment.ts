/** Rows of deployments, tasks and sandboxes as the wire shows them (contract 9.2). */
import {
  type BuiltSandbox,
  bundleFormatVersion,
  type Deployment,
  deploymentSourceMediaType,
  type Sandbox,
  type Task,
} from "@helmr/api";
import type { DeploymentRow, SandboxRow, TaskRow } from "@helmr/store";

export function presentDeployment(row: DeploymentRow, tasks: Task[] | null): Deployment {
  return {
    id: row.id,
    version: row.version,
    api_version: row.api_version,
    ...(row.sdk_version === null ? {} : { sdk_version: row.sdk_version }),
    ...(row.cli_version === null ? {} : { cli_version: row.cli_version }),
    bundle_format_version: row.bundle_format_version,
    worker_protocol_version: row.worker_protocol_version,
    project_id: row.project_id,
    environment_id: row.environment_id,
    content_hash: row.content_hash,
    deployment_source: {
      digest: row.source_digest,
      size_bytes: row.source_size_bytes,
      media_type: deploymentSourceMediaType,
    },
    ...(row.build_manifest_digest === null ? {} : { build_manifest_digest: row.build_manifest_digest }),
    ...(row.deployment_manifest_digest === null
      ? {}
      : { deployment_manifest_digest: row.deployment_manifest_digest }),
    status: row.status,
    ...(row.error === null ? {} : { error: row.error }),
    tasks,
    created_at: row.created_at.toISOString(),
    building_at: row.building_at?.toISOString() ?? null,
    built_at: row.built_at?.toISOString() ?? null,
    deployed_at: row.deployed_at?.toISOString() ?? null,
    failed_at: row.failed_at?.toISOString() ?? null,
  };
}

export function presentTask(row: TaskRow): Task {
  return {
    id: row.id,
    task_id: row.task_id,
    file_path: row.file_path,
    export_name: row.export_name,
    handler_entrypoint: `${row.file_path}#${row.export_name}`,
    bundle_format_version: bundleFormatVersion,
    queue_name: row.queue_name,
    ...(row.concurrency_limit === null ? {} : { concurrency_limit: row.concurrency_limit }),
    ...(row.ttl === null ? {} : { ttl: row.ttl }),
    created_at: row.created_at.toISOString(),
  };
}

/** Versions of the formats between deployment, guest and worker; they change when what they name changes. */
const formats = {
  image_artifact_format: "helmr.layers.v1",
  image_format: "helmr.layers.v1",
  runtime_abi: "helmr.task.v1",
  guestd_abi: "helmr.guest.v1",
  adapter_abi: "helmr.node.v1",
  filesystem_format: "ext4",
  contract_version: 1,
} as const;

export function presentSandbox(row: SandboxRow): Sandbox {
  const { definition, image } = row.definition as unknown as BuiltSandbox;
  const [uid, gid] = image.user.split(":");
  return {
    id: row.id,
    deployment_id: row.deployment_id,
    sandbox_id: row.sandbox_id,
    fingerprint: row.fingerprint,
    image_artifact_id: row.image_digest,
    rootfs_digest: row.image_digest,
    image_digest: row.image_digest,
    ...formats,
    workspace_mount_path: definition.workspace_mount_path,
    resource_floor: {
      milli_cpu: definition.resources.cpu * 1000,
      memory_mib: definition.resources.memory_mib,
    },
    disk_floor_mib: definition.resources.disk_mib,
    network_policy: definition.network,
    ...numericId("default_uid", uid),
    ...numericId("default_gid", gid),
    default_workdir: image.workdir,
    created_at: row.created_at.toISOString(),
  };
}

/** An image's user may be a name, whose number only the image knows. */
function numericId(key: "default_uid" | "default_gid", text: string | undefined) {
  if (text === "root") return { [key]: 0 };
  return text !== undefined && /^\d{1,9}$/.test(text) ? { [key]: Number(text) } : {};
}
