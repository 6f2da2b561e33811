/** Live copies of workspaces on the wire (contract 7.1). */
import type { Materialization } from "@helmr/api";
import type { MaterializationRow } from "@helmr/store";

export function presentMaterialization(row: MaterializationRow): Materialization {
  return {
    id: row.id,
    project_id: row.project_id,
    environment_id: row.environment_id,
    workspace_id: row.workspace_id,
    deployment_sandbox_id: row.deployment_sandbox_id,
    ...(row.base_version_id === null ? {} : { base_version_id: row.base_version_id }),
    ...(row.worker_instance_id === null ? {} : { worker_instance_id: row.worker_instance_id }),
    state: row.state,
    claim_attempt: row.claim_attempt,
    fencing_generation: row.fencing_generation,
    dirty_generation: row.dirty_generation,
    ...(row.reservation_expires_at === null
      ? {}
      : { reservation_expires_at: row.reservation_expires_at.toISOString() }),
    ...(row.last_heartbeat_at === null ? {} : { last_heartbeat_at: row.last_heartbeat_at.toISOString() }),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}
