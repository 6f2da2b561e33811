/** The tables of migration 0004: versions, materializations, execs, ptys. */
import type { Generated } from "kysely";
import type {
  DefaultTimestamp,
  Jsonb,
  Nullable,
  NullableJsonb,
  NullableTimestamp,
  Timestamp,
} from "./schema-columns.ts";

export type WorkspaceState = "active" | "deleting" | "recovery_required" | "archived" | "deleted";
export type WorkspaceDesiredState = "active" | "stopped" | "archived" | "deleted";
export type WorkspaceDirtyState = "clean" | "dirty" | "capturing" | "capture_failed" | "dirty_state_lost";
export type WorkspaceVersionKind = "user" | "system";
export type WorkspaceVersionReason =
  | "run"
  | "stop"
  | "checkpoint"
  | "request"
  | "restore"
  | "fork"
  | "upload";
export type MaterializationState =
  | "requested"
  | "materializing"
  | "restoring"
  | "running"
  | "capturing"
  | "stopping"
  | "stopped"
  | "lost"
  | "failed";
export type ExecState = "queued" | "materializing" | "running" | "exited" | "terminated" | "lost" | "failed";
export type PtyState = "creating" | "open" | "resizing" | "closing" | "closed" | "lost" | "failed";
export type WorkspaceStream = "stdout" | "stderr" | "stdin" | "output" | "input";

export interface WorkspacesSchema {
  workspace_versions: {
    id: string;
    environment_id: string;
    workspace_id: string;
    parent_version_id: Nullable<string>;
    kind: WorkspaceVersionKind;
    reason: WorkspaceVersionReason;
    run_id: Nullable<string>;
    manifest_digest: string;
    content_digest: string;
    artifact_encoding: string;
    artifact_entry_count: number;
    size_bytes: number;
    message: Nullable<string>;
    promoted_at: NullableTimestamp;
    created_at: DefaultTimestamp;
  };
  workspace_version_artifacts: { version_id: string; digest: string };
  artifact_reservations: { digest: string; lease_id: string; created_at: DefaultTimestamp };
  workspace_materializations: {
    id: string;
    environment_id: string;
    project_id: string;
    workspace_id: string;
    deployment_sandbox_id: string;
    base_version_id: Nullable<string>;
    run_id: Nullable<string>;
    worker_instance_id: Nullable<string>;
    lease_id: Nullable<string>;
    state: MaterializationState;
    claim_attempt: Generated<number>;
    fencing_generation: Generated<number>;
    dirty_generation: Generated<number>;
    reservation_expires_at: NullableTimestamp;
    last_heartbeat_at: NullableTimestamp;
    stop_requested_at: NullableTimestamp;
    command_seq: Generated<number>;
    append_number: Generated<number>;
    error: NullableJsonb<Record<string, unknown>>;
    worker_group_id: Generated<string>;
    needs_cpu: Generated<number>;
    needs_memory_mib: Generated<number>;
    needs_disk_mib: Generated<number>;
    needs_architecture: Nullable<string>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
    ended_at: NullableTimestamp;
  };
  workspace_commands: {
    materialization_id: string;
    seq: number;
    body: Jsonb<Record<string, unknown>>;
    data: Nullable<Buffer>;
    created_at: DefaultTimestamp;
  };
  workspace_requests: {
    id: string;
    materialization_id: string;
    environment_id: string;
    status: "pending" | "done" | "failed";
    params: Jsonb<Record<string, unknown>>;
    result: NullableJsonb<Record<string, unknown>>;
    data: Nullable<Buffer>;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
  };
  workspace_execs: {
    id: string;
    environment_id: string;
    workspace_id: string;
    materialization_id: Nullable<string>;
    command: Jsonb<string[]>;
    cwd: Generated<string>;
    env_shape: NullableJsonb<Record<string, string>>;
    detached: Generated<boolean>;
    state: ExecState;
    process_id: Nullable<string>;
    exit_code: Nullable<number>;
    signal: Nullable<string>;
    error: NullableJsonb<Record<string, unknown>>;
    stdout_cursor: Generated<number>;
    stderr_cursor: Generated<number>;
    stdin_cursor: Generated<number>;
    stdout_retained: Generated<number>;
    stderr_retained: Generated<number>;
    stdout_read: Generated<number>;
    stderr_read: Generated<number>;
    stdout_read_at: NullableTimestamp;
    stderr_read_at: NullableTimestamp;
    stdin_closed_at: NullableTimestamp;
    streams_removed_at: NullableTimestamp;
    created_at: DefaultTimestamp;
    started_at: NullableTimestamp;
    exited_at: NullableTimestamp;
    updated_at: DefaultTimestamp;
  };
  workspace_ptys: {
    id: string;
    environment_id: string;
    workspace_id: string;
    materialization_id: Nullable<string>;
    cwd: Generated<string>;
    cols: number;
    rows: number;
    state: PtyState;
    process_id: Nullable<string>;
    error: NullableJsonb<Record<string, unknown>>;
    output_cursor: Generated<number>;
    output_retained: Generated<number>;
    output_read: Generated<number>;
    output_read_at: NullableTimestamp;
    input_cursor: Generated<number>;
    streams_removed_at: NullableTimestamp;
    created_at: DefaultTimestamp;
    started_at: NullableTimestamp;
    closed_at: NullableTimestamp;
    updated_at: DefaultTimestamp;
  };
  workspace_stream_chunks: {
    resource_id: string;
    stream: WorkspaceStream;
    offset_start: number;
    offset_end: number;
    id: string;
    workspace_id: string;
    data: Buffer;
    observed_at: Timestamp;
    created_at: DefaultTimestamp;
  };
}
