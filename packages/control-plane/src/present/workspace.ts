/** Workspaces and their versions on the wire (contract 7.1, 7.7). */
import type { VersionRow, WorkspaceRow } from "@helmr/store";

export function presentWorkspace(row: WorkspaceRow) {
  return {
    id: row.id,
    project_id: row.project_id,
    environment_id: row.environment_id,
    deployment_sandbox_id: row.deployment_sandbox_id,
    sandbox_id: row.sandbox_id,
    sandbox_fingerprint: row.sandbox_fingerprint,
    ...given("external_id", row.external_id),
    ...given("current_version_id", row.current_version_id),
    state: row.state,
    desired_state: row.desired_state,
    dirty_state: row.dirty_state,
    ...given("last_materialization_id", row.last_materialization_id),
    ...(Object.keys(row.metadata).length === 0 ? {} : { metadata: row.metadata }),
    ...(row.tags.length === 0 ? {} : { tags: row.tags }),
    ...given("auto_stop_at", row.auto_stop_at?.toISOString()),
    ...given("auto_delete_at", row.auto_delete_at?.toISOString()),
    last_activity_at: row.last_activity_at.toISOString(),
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    ...given("archived_at", row.archived_at?.toISOString()),
    ...given("deleted_at", row.deleted_at?.toISOString()),
  };
}

export function presentVersion(row: VersionRow) {
  return {
    id: row.id,
    workspace_id: row.workspace_id,
    ...given("parent_version_id", row.parent_version_id),
    kind: row.kind,
    state: "ready" as const,
    content_digest: row.content_digest,
    size_bytes: row.size_bytes,
    artifact_encoding: row.artifact_encoding,
    artifact_entry_count: row.artifact_entry_count,
    ...given("message", row.message),
    ...given("promoted_at", row.promoted_at?.toISOString()),
    created_at: row.created_at.toISOString(),
  };
}

function given<Name extends string>(name: Name, value: string | null | undefined): { [N in Name]?: string } {
  return (value == null ? {} : { [name]: value }) as { [N in Name]?: string };
}
