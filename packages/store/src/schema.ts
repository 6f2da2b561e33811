/**
 * The tables as Kysely sees them; columns as in ../migrations. What a value is in JavaScript: see database.ts.
 *
 * jsonb columns are written as JSON text (`JSON.stringify`) and read as values; json columns are text both ways.
 */
import type { ColumnType, Generated } from "kysely";
import type {
  DefaultJsonb,
  DefaultTimestamp,
  Jsonb,
  Nullable,
  NullableJsonb,
  NullableTimestamp,
  Timestamp,
} from "./schema-columns.ts";
import type { IdentitySchema } from "./schema-identity.ts";
import type { SchedulesSchema } from "./schema-schedules.ts";
import type { WaitsSchema } from "./schema-waits.ts";
import type {
  WorkspaceDesiredState,
  WorkspaceDirtyState,
  WorkspaceState,
  WorkspacesSchema,
} from "./schema-workspaces.ts";

export type RunStatus = "queued" | "running" | "waiting" | "succeeded" | "failed" | "cancelled" | "expired";
export type ExecutionStatus =
  | "queued"
  | "leased"
  | "running"
  | "waiting"
  | "parked"
  | "resume_queued"
  | "retry_scheduled"
  | "cancelling"
  | "finished";
export type SessionStatus = "open" | "closed" | "cancelled" | "expired";
export type DeploymentStatus = "queued" | "building" | "deployed" | "failed";

export interface Schema extends IdentitySchema, SchedulesSchema, WaitsSchema, WorkspacesSchema {
  organizations: { id: string; slug: string; name: string; created_at: DefaultTimestamp };
  projects: {
    id: string;
    organization_id: string;
    slug: string;
    name: string;
    is_default: Generated<boolean>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
    deleting_at: NullableTimestamp;
  };
  environments: {
    id: string;
    organization_id: string;
    project_id: string;
    slug: string;
    name: string;
    color_hex: string;
    is_default: Generated<boolean>;
    worker_group_id: Generated<string>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
    deleting_at: NullableTimestamp;
  };
  api_keys: {
    id: string;
    environment_id: string;
    name: string;
    key_hash: Buffer;
    key_prefix: string;
    scopes: string[];
    created_by_user_id: Nullable<string>;
    created_at: DefaultTimestamp;
    last_used_at: NullableTimestamp;
    expires_at: NullableTimestamp;
    revoked_at: NullableTimestamp;
  };
  secrets: {
    environment_id: string;
    name: string;
    key_id: string;
    data_key: Buffer;
    nonce: Buffer;
    ciphertext: Buffer;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
  worker_groups: {
    id: string;
    name: string;
    labels: DefaultJsonb<Record<string, string>>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
  worker_bootstrap_tokens: {
    id: string;
    worker_group_id: string;
    token_hash: Buffer;
    name: Generated<string>;
    token_prefix: Nullable<string>;
    created_at: DefaultTimestamp;
    expires_at: NullableTimestamp;
    revoked_at: NullableTimestamp;
    last_used_at: NullableTimestamp;
  };
  worker_instances: {
    id: string;
    worker_group_id: string;
    name: string;
    credential_hash: Buffer;
    state: "active" | "draining" | "gone";
    version: string;
    capacity: Jsonb;
    capabilities: Jsonb;
    labels: DefaultJsonb<Record<string, string>>;
    capacity_free: NullableJsonb;
    drain_requested_at: NullableTimestamp;
    bootstrap_token_id: Nullable<string>;
    credential_issued_at: DefaultTimestamp;
    previous_credential_hash: Nullable<Buffer>;
    previous_valid_until: NullableTimestamp;
    claim_seq: Generated<number>;
    registered_at: DefaultTimestamp;
    last_heartbeat_at: DefaultTimestamp;
  };
  deployments: {
    id: string;
    environment_id: string;
    project_id: string;
    version: string;
    status: DeploymentStatus;
    content_hash: string;
    source_digest: string;
    source_size_bytes: number;
    api_version: string;
    sdk_version: Nullable<string>;
    cli_version: Nullable<string>;
    bundle_format_version: number;
    worker_protocol_version: string;
    worker_group_id: Generated<string>;
    architecture: Nullable<string>;
    build_manifest_digest: Nullable<string>;
    deployment_manifest_digest: Nullable<string>;
    catalog: NullableJsonb;
    error: NullableJsonb;
    event_seq: Generated<number>;
    build_attempt: Generated<number>;
    lease_id: Nullable<string>;
    worker_instance_id: Nullable<string>;
    fencing: Generated<number>;
    lease_expires_at: NullableTimestamp;
    append_number: Generated<number>;
    created_at: DefaultTimestamp;
    building_at: NullableTimestamp;
    built_at: NullableTimestamp;
    deployed_at: NullableTimestamp;
    failed_at: NullableTimestamp;
    events_removed_at: NullableTimestamp;
  };
  deployment_versions: { environment_id: string; day: string; last_number: number };
  current_deployments: {
    environment_id: string;
    deployment_id: string;
    promoted_at: DefaultTimestamp;
    reason: Nullable<string>;
  };
  deployment_events: {
    deployment_id: string;
    seq: number;
    category: string;
    severity: string;
    source: string;
    kind: string;
    message: string;
    attributes: Jsonb<Record<string, unknown>>;
    occurred_at: Timestamp;
    at: DefaultTimestamp;
  };
  deployment_tasks: {
    id: string;
    deployment_id: string;
    environment_id: string;
    task_id: string;
    file_path: string;
    export_name: string;
    sandbox_id: string;
    queue_name: string;
    max_duration_seconds: number;
    ttl: Nullable<string>;
    retry_policy: Jsonb;
    secrets: Jsonb;
    has_payload: boolean;
    schedule: NullableJsonb<{ readonly cron: string; readonly timezone: string }>;
    created_at: DefaultTimestamp;
  };
  deployment_sandboxes: {
    id: string;
    deployment_id: string;
    environment_id: string;
    sandbox_id: string;
    fingerprint: string;
    image_digest: string;
    definition: Jsonb;
    created_at: DefaultTimestamp;
  };
  deployment_queues: { deployment_id: string; name: string; concurrency_limit: Nullable<number> };
  queues: { environment_id: string; name: string; concurrency_limit: Nullable<number> };
  paused_queues: { environment_id: string; name: string; paused_at: DefaultTimestamp };
  workspaces: {
    id: string;
    environment_id: string;
    project_id: string;
    deployment_sandbox_id: string;
    sandbox_id: string;
    sandbox_fingerprint: string;
    external_id: Nullable<string>;
    state: WorkspaceState;
    desired_state: WorkspaceDesiredState;
    dirty_state: WorkspaceDirtyState;
    worker_instance_id: Nullable<string>;
    current_version_id: Nullable<string>;
    last_materialization_id: Nullable<string>;
    metadata: DefaultJsonb<Record<string, unknown>>;
    tags: Generated<string[]>;
    last_activity_at: DefaultTimestamp;
    auto_stop_at: NullableTimestamp;
    auto_delete_at: NullableTimestamp;
    archived_at: NullableTimestamp;
    deleted_at: NullableTimestamp;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
  sessions: {
    id: string;
    environment_id: string;
    project_id: string;
    task_id: string;
    initial_deployment_id: string;
    active_deployment_id: string;
    external_id: Nullable<string>;
    start_fingerprint: Buffer;
    status: SessionStatus;
    current_run_id: Nullable<string>;
    workspace_id: Nullable<string>;
    metadata: DefaultJsonb<Record<string, unknown>>;
    tags: Generated<string[]>;
    result: Nullable<string>;
    terminal_reason: Nullable<string>;
    expires_at: NullableTimestamp;
    expired_at: NullableTimestamp;
    schedule_id: Nullable<string>;
    created_at: DefaultTimestamp;
    updated_at: DefaultTimestamp;
  };
  idempotency_keys: {
    environment_id: string;
    scope_name: string;
    key: string;
    fingerprint: Buffer;
    resource_id: string;
    created_at: DefaultTimestamp;
    expires_at: Timestamp;
  };
  runs: RunsTable;
  run_counts: { environment_id: string; shard: number } & Record<RunStatus, Generated<number>>;
  run_events: {
    run_id: string;
    seq: number;
    run_lease_id: Nullable<string>;
    attempt_id: Nullable<string>;
    attempt_number: Nullable<number>;
    category: string;
    severity: string;
    source: string;
    kind: string;
    message: string;
    redaction_class: Generated<string>;
    attributes: Jsonb<Record<string, unknown>>;
    occurred_at: Timestamp;
    at: DefaultTimestamp;
  };
  run_logs: {
    run_id: string;
    seq: number;
    run_lease_id: string;
    attempt_id: Nullable<string>;
    attempt_number: number;
    stream: "stdout" | "stderr";
    observed_seq: number;
    content: Buffer;
    occurred_at: Timestamp;
    at: DefaultTimestamp;
  };
  run_operations: {
    id: string;
    environment_id: string;
    run_id: string;
    kind: "cancel";
    status: "pending" | "applied" | "rejected";
    reason: Nullable<string>;
    idempotency_key: Nullable<string>;
    fingerprint: Buffer;
    created_at: DefaultTimestamp;
    applied_at: NullableTimestamp;
  };
}

export interface RunsTable {
  id: string;
  environment_id: string;
  project_id: string;
  session_id: string;
  deployment_id: string;
  deployment_task_id: string;
  deployment_version: string;
  workspace_id: string;
  task_id: string;
  turn_index: Generated<number>;
  previous_run_id: Nullable<string>;
  reason: Generated<"initial" | "input">;
  status: RunStatus;
  execution_status: ExecutionStatus;
  queue_name: string;
  concurrency_key: Nullable<string>;
  lane_key: ColumnType<string, never, never>;
  limited: Generated<boolean>;
  priority: Generated<number>;
  payload: string;
  metadata: DefaultJsonb<Record<string, unknown>>;
  tags: Generated<string[]>;
  retry_policy: Jsonb;
  max_duration_seconds: number;
  ttl: Nullable<string>;
  ttl_expires_at: NullableTimestamp;
  available_at: DefaultTimestamp;
  attempt_number: Generated<number>;
  lost_count: Generated<number>;
  attempt_id: Nullable<string>;
  lease_id: Nullable<string>;
  worker_instance_id: Nullable<string>;
  fencing: Generated<number>;
  lease_expires_at: NullableTimestamp;
  append_number: Generated<number>;
  cancel_requested_at: NullableTimestamp;
  cancel_reason: Nullable<string>;
  cancel_force: Generated<boolean>;
  event_seq: Generated<number>;
  checkpoint_id: Nullable<string>;
  active_ms: Generated<number>;
  schedule_id: Nullable<string>;
  worker_group_id: Generated<string>;
  needs_cpu: Generated<number>;
  needs_memory_mib: Generated<number>;
  needs_disk_mib: Generated<number>;
  needs_architecture: Nullable<string>;
  waiting_reason: Nullable<string>;
  stdout_bytes: Generated<number>;
  stderr_bytes: Generated<number>;
  log_stored_bytes: Generated<number>;
  log_truncated: Generated<boolean>;
  exit_code: Nullable<number>;
  output: Nullable<string>;
  failure_kind: Nullable<string>;
  failure_detail: NullableJsonb;
  api_version: string;
  sdk_version: Nullable<string>;
  cli_version: Nullable<string>;
  trace_context: Nullable<string>;
  created_at: DefaultTimestamp;
  updated_at: DefaultTimestamp;
  started_at: NullableTimestamp;
  ended_at: NullableTimestamp;
  events_removed_at: NullableTimestamp;
}
