/** Rows of worker groups, their tokens and workers as the wire shows them. */
import type { BootstrapToken, Worker, WorkerGroup } from "@helmr/api";
import type { BootstrapTokenRow, WorkerGroupRow, WorkerRow } from "@helmr/store";

export function presentWorkerGroup(row: WorkerGroupRow): WorkerGroup {
  const { id, name, labels, environments, active, draining, gone } = row;
  return {
    id,
    name,
    labels,
    workers: { active, draining, gone },
    environments,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
  };
}

export function presentBootstrapToken(row: BootstrapTokenRow): BootstrapToken {
  return {
    id: row.id,
    name: row.name,
    ...(row.token_prefix !== null && { prefix: row.token_prefix }),
    status: row.revoked_at !== null ? "revoked" : row.is_expired ? "expired" : "active",
    created_at: row.created_at.toISOString(),
    ...(row.expires_at && { expires_at: row.expires_at.toISOString() }),
    ...(row.revoked_at && { revoked_at: row.revoked_at.toISOString() }),
    ...(row.last_used_at && { last_used_at: row.last_used_at.toISOString() }),
  };
}

export function presentWorker(row: WorkerRow): Worker {
  const text = (name: string) => {
    const value = row.capabilities[name];
    return typeof value === "string" ? { [name]: value } : {};
  };
  return {
    id: row.id,
    name: row.name,
    worker_group: { id: row.group_id, name: row.group_name },
    state: row.state,
    ...(row.drain_requested_at && { drain_requested_at: row.drain_requested_at.toISOString() }),
    version: row.version,
    labels: row.labels,
    ...text("driver"),
    ...text("driver_version"),
    ...text("architecture"),
    ...text("checkpoint_compatibility"),
    capacity: row.capacity,
    held: {
      cpu: row.held_cpu,
      memory_mib: row.held_memory_mib,
      disk_mib: row.held_disk_mib,
      slots: row.held_slots,
      builds: row.held_builds,
    },
    ...freeOf(row),
    ...(row.capacity_free && { reported_free: row.capacity_free }),
    ...(row.bootstrap_token_id !== null && { bootstrap_token_id: row.bootstrap_token_id }),
    credential_issued_at: row.credential_issued_at.toISOString(),
    registered_at: row.registered_at.toISOString(),
    last_heartbeat_at: row.last_heartbeat_at.toISOString(),
  };
}

/** What is not enforced is not said. */
function freeOf(row: WorkerRow): Pick<Worker, "free"> {
  if (row.capacity.slots === undefined) return {};
  return {
    free: {
      cpu: row.free_cpu,
      memory_mib: row.free_memory_mib,
      slots: row.free_slots,
      ...(row.capacity.disk_mib === undefined ? {} : { disk_mib: row.free_disk_mib }),
    },
  };
}
