-- The schema of the main job. Ids are UUIDv7 made by the control plane; times are timestamptz in UTC.
-- Columns that belong to a lifecycle are written only by that lifecycle's module in ../src.

create table organizations (
  id uuid primary key,
  slug text not null unique,
  name text not null,
  created_at timestamptz not null default now()
);

create table projects (
  id uuid primary key,
  organization_id uuid not null references organizations,
  slug text not null,
  name text not null,
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (organization_id, slug)
);

create table environments (
  id uuid primary key,
  organization_id uuid not null references organizations,
  project_id uuid not null references projects,
  slug text not null,
  name text not null,
  color_hex text not null,
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (project_id, slug)
);

-- Only the sha256 of a key is stored; key_prefix is its first 16 characters, for people to recognise it.
create table api_keys (
  id uuid primary key,
  environment_id uuid not null references environments,
  name text not null,
  key_hash bytea not null unique,
  key_prefix text not null,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  last_used_at timestamptz,
  expires_at timestamptz,
  revoked_at timestamptz
);

-- ciphertext: the value under a data key of its own; data_key: that key under the installation's key `key_id`.
-- Both AES-256-GCM, bound to environment and name as associated data (secret-cipher.ts).
create table secrets (
  environment_id uuid not null references environments,
  name text not null,
  key_id text not null,
  data_key bytea not null,
  nonce bytea not null,
  ciphertext bytea not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (environment_id, name)
);
-- What a rotation has still to wrap anew.
create index secrets_by_key on secrets (key_id, environment_id, name);

create table worker_groups (
  id uuid primary key,
  name text not null unique,
  created_at timestamptz not null default now()
);

create table worker_bootstrap_tokens (
  id uuid primary key,
  worker_group_id uuid not null references worker_groups,
  token_hash bytea not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz
);

create table worker_instances (
  id uuid primary key,
  worker_group_id uuid not null references worker_groups,
  name text not null,
  credential_hash bytea not null unique,
  state text not null check (state in ('active', 'draining', 'gone')),
  version text not null,
  capacity jsonb not null,
  capabilities jsonb not null,
  registered_at timestamptz not null default now(),
  last_heartbeat_at timestamptz not null default now()
);

-- Deployments: queued -> building -> deployed | failed. A build is leased like a run (lease_id, fencing, lease_expires_at).
create table deployments (
  id uuid primary key,
  environment_id uuid not null references environments,
  project_id uuid not null references projects,
  version text not null,
  status text not null check (status in ('queued', 'building', 'deployed', 'failed')),
  content_hash text not null,
  source_digest text not null,
  source_size_bytes bigint not null,
  api_version text not null,
  sdk_version text,
  cli_version text,
  bundle_format_version integer not null,
  worker_protocol_version text not null,
  build_manifest_digest text,
  deployment_manifest_digest text,
  catalog jsonb,
  error jsonb,
  event_seq bigint not null default 0,
  build_attempt integer not null default 0,
  lease_id uuid,
  worker_instance_id uuid references worker_instances,
  fencing bigint not null default 0,
  lease_expires_at timestamptz,
  -- Number of the last event item of this lease that counts; a lower one is a repetition.
  append_number bigint not null default 0,
  created_at timestamptz not null default now(),
  building_at timestamptz,
  built_at timestamptz,
  deployed_at timestamptz,
  failed_at timestamptz,
  unique (environment_id, version)
);
create index deployments_by_age on deployments (environment_id, created_at desc, id desc);
create index deployments_unfinished on deployments (created_at) where status in ('queued', 'building');
create unique index deployments_by_lease on deployments (lease_id) where lease_id is not null;
create index deployments_in_flight_content on deployments (environment_id, content_hash) where status in ('queued', 'building');

create table deployment_versions (
  environment_id uuid not null references environments,
  day text not null,
  last_number integer not null,
  primary key (environment_id, day)
);

create table current_deployments (
  environment_id uuid primary key references environments,
  deployment_id uuid not null references deployments,
  promoted_at timestamptz not null default now(),
  reason text
);

create table deployment_events (
  deployment_id uuid not null references deployments on delete cascade,
  seq bigint not null,
  category text not null,
  severity text not null,
  source text not null,
  kind text not null,
  message text not null,
  attributes jsonb not null,
  occurred_at timestamptz not null,
  at timestamptz not null default now(),
  primary key (deployment_id, seq)
);

create table deployment_tasks (
  id uuid primary key,
  deployment_id uuid not null references deployments on delete cascade,
  environment_id uuid not null references environments,
  task_id text not null,
  file_path text not null,
  export_name text not null,
  sandbox_id text not null,
  queue_name text not null,
  max_duration_seconds integer not null,
  ttl text,
  retry_policy jsonb not null,
  secrets jsonb not null,
  has_payload boolean not null,
  created_at timestamptz not null default now(),
  unique (deployment_id, task_id)
);

create table deployment_sandboxes (
  id uuid primary key,
  deployment_id uuid not null references deployments on delete cascade,
  environment_id uuid not null references environments,
  sandbox_id text not null,
  fingerprint text not null,
  image_digest text not null,
  definition jsonb not null, -- CatalogSandbox plus the built image's environment, user and working directory
  created_at timestamptz not null default now(),
  unique (deployment_id, sandbox_id)
);

-- Limits of the deployment's queues; what is in force per environment is `queues`, replaced at promotion.
create table deployment_queues (
  deployment_id uuid not null references deployments on delete cascade,
  name text not null,
  concurrency_limit integer,
  primary key (deployment_id, name)
);
create table queues (
  environment_id uuid not null references environments,
  name text not null,
  concurrency_limit integer,
  primary key (environment_id, name)
);

create table workspaces (
  id uuid primary key,
  environment_id uuid not null references environments,
  project_id uuid not null references projects,
  deployment_sandbox_id uuid not null references deployment_sandboxes,
  sandbox_id text not null,
  sandbox_fingerprint text not null,
  external_id text,
  state text not null check (state in ('active', 'deleting', 'recovery_required', 'archived', 'deleted')),
  desired_state text not null check (desired_state in ('active', 'stopped', 'archived', 'deleted')),
  dirty_state text not null check (dirty_state in ('clean', 'dirty', 'capturing', 'capture_failed', 'dirty_state_lost')),
  -- The worker whose disk holds the files, once a run has been there: later runs are routed to it. No reference, because
  -- every claim writes it: it would lock the worker's row each time.
  worker_instance_id uuid,
  metadata jsonb not null default '{}',
  tags text[] not null default '{}',
  last_activity_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (environment_id, external_id)
);

create table sessions (
  id uuid primary key,
  environment_id uuid not null references environments,
  project_id uuid not null references projects,
  task_id text not null,
  initial_deployment_id uuid not null references deployments,
  active_deployment_id uuid not null references deployments,
  external_id text,
  start_fingerprint bytea not null,
  status text not null check (status in ('open', 'closed', 'cancelled', 'expired')),
  current_run_id uuid,
  workspace_id uuid references workspaces,
  metadata jsonb not null default '{}',
  tags text[] not null default '{}',
  result json,
  terminal_reason json,
  expires_at timestamptz,
  expired_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (environment_id, external_id)
);
create index sessions_by_update on sessions (environment_id, updated_at desc, id desc);
create index sessions_by_status on sessions (environment_id, status, updated_at desc, id desc);
create index sessions_by_task on sessions (environment_id, task_id, updated_at desc, id desc);
create index sessions_by_task_status on sessions (environment_id, task_id, status, updated_at desc, id desc);
create index sessions_due on sessions (expires_at) where status = 'open' and expires_at is not null;

-- scope_name: what the key is for, like 'session.start:<task id>'. resource_id is set in the transaction that made the resource.
create table idempotency_keys (
  environment_id uuid not null references environments,
  scope_name text not null,
  key text not null,
  fingerprint bytea not null,
  resource_id uuid not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  primary key (environment_id, scope_name, key)
);
create index idempotency_keys_due on idempotency_keys (expires_at);

-- Runs. Transitions: ../src/runs (the table at the head of lifecycle.ts is the lifecycle).
-- References to session and workspace only: both are rows of this run's own. Environment, project, deployment and task are
-- shared by every run, and a reference to a row that all writers share costs a lock on it per insert; the session holds them.
create table runs (
  id uuid primary key,
  environment_id uuid not null,
  project_id uuid not null,
  session_id uuid not null references sessions,
  deployment_id uuid not null,
  deployment_task_id uuid not null,
  deployment_version text not null,
  workspace_id uuid not null references workspaces,
  task_id text not null,
  turn_index integer not null default 0,
  previous_run_id uuid,
  reason text not null default 'initial' check (reason in ('initial', 'input')),
  status text not null check (status in ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled', 'expired')),
  execution_status text not null
    check (execution_status in ('queued', 'leased', 'running', 'retry_scheduled', 'cancelling', 'finished')),
  queue_name text not null,
  concurrency_key text,
  -- The limit of a queue counts per lane: the runs of one concurrency key, and those without one.
  lane_key text not null generated always as (coalesce(concurrency_key, '')) stored,
  -- The queue has a concurrency limit (`queues`): such runs are claimed lane by lane, the others in one scan.
  limited boolean not null default false,
  priority integer not null default 0,
  payload json not null,
  metadata jsonb not null default '{}',
  tags text[] not null default '{}',
  retry_policy jsonb not null,
  max_duration_seconds integer not null,
  ttl text,
  ttl_expires_at timestamptz,
  available_at timestamptz not null default now(),
  attempt_number integer not null default 0,
  lost_count integer not null default 0,
  attempt_id uuid,
  lease_id uuid,
  worker_instance_id uuid,
  fencing bigint not null default 0,
  lease_expires_at timestamptz,
  -- Number of the last append item of this lease that counts; a lower one is a repetition.
  append_number bigint not null default 0,
  cancel_requested_at timestamptz,
  cancel_reason text,
  cancel_force boolean not null default false,
  event_seq bigint not null default 0,
  -- Bytes the task wrote, also those beyond the limit that are only counted; log_stored_bytes is what run_logs holds.
  stdout_bytes bigint not null default 0,
  stderr_bytes bigint not null default 0,
  log_stored_bytes bigint not null default 0,
  log_truncated boolean not null default false,
  exit_code integer,
  output json,
  failure_kind text,
  failure_detail jsonb,
  api_version text not null,
  sdk_version text,
  cli_version text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Start of the current attempt.
  started_at timestamptz,
  ended_at timestamptz,
  check ((status in ('running', 'waiting')) = (lease_id is not null)),
  check ((status in ('succeeded', 'failed', 'cancelled', 'expired')) = (ended_at is not null))
) with (
  fillfactor = 75, -- room for HOT updates: appends and heartbeats change no indexed column
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02
);
create index runs_by_status on runs (environment_id, status, created_at desc, id desc);
create index runs_by_age on runs (environment_id, created_at desc, id desc);
create index runs_by_session on runs (session_id, turn_index);
create index runs_claimable on runs (priority desc, available_at, id) where status = 'queued' and not limited;
create index runs_lanes on runs (environment_id, queue_name, lane_key, priority desc, available_at, id)
  where status = 'queued' and limited;
create index runs_active_in_lane on runs (environment_id, queue_name, lane_key)
  where status = 'running' and limited;
create unique index runs_active_in_workspace on runs (workspace_id) where status in ('running', 'waiting');
create unique index runs_by_lease on runs (lease_id) where lease_id is not null;
create index runs_ttl on runs (ttl_expires_at) where status = 'queued' and ttl_expires_at is not null;

-- Runs per status, kept by every transition: the sum over shards counts, one shard alone may be negative.
create table run_counts (
  environment_id uuid not null,
  shard integer not null,
  queued bigint not null default 0,
  running bigint not null default 0,
  waiting bigint not null default 0,
  succeeded bigint not null default 0,
  failed bigint not null default 0,
  cancelled bigint not null default 0,
  expired bigint not null default 0,
  primary key (environment_id, shard)
) with (fillfactor = 20);

-- One event sequence per run, shared by run_events and run_logs: seq starts at 1, allocated from runs.event_seq in the
-- statement that makes the transition. No reference to runs: the rows are written in that same statement.
create table run_events (
  run_id uuid not null,
  seq bigint not null,
  run_lease_id uuid,
  attempt_id uuid,
  attempt_number integer,
  category text not null,
  severity text not null,
  source text not null,
  kind text not null,
  message text not null,
  redaction_class text not null default 'none',
  attributes jsonb not null,
  occurred_at timestamptz not null,
  at timestamptz not null default now(),
  primary key (run_id, seq)
);
-- A log chunk is an event too (log.stdout, log.stderr): pages of events are merged from both tables by seq.
-- observed_seq: the chunk's number in its lease, by which a repeated append is recognised.
create table run_logs (
  run_id uuid not null,
  seq bigint not null,
  run_lease_id uuid not null,
  attempt_id uuid,
  attempt_number integer not null,
  stream text not null check (stream in ('stdout', 'stderr')),
  observed_seq bigint not null,
  content bytea not null,
  occurred_at timestamptz not null,
  at timestamptz not null default now(),
  primary key (run_id, seq)
);

create table run_operations (
  id uuid primary key,
  environment_id uuid not null references environments,
  run_id uuid not null references runs on delete cascade,
  kind text not null check (kind in ('cancel')),
  status text not null check (status in ('pending', 'applied', 'rejected')),
  reason text,
  idempotency_key text,
  fingerprint bytea not null,
  created_at timestamptz not null default now(),
  applied_at timestamptz
);
create index run_operations_pending on run_operations (run_id) where status = 'pending';
create unique index run_operations_idempotency on run_operations (run_id, idempotency_key) where idempotency_key is not null;
