-- Workspaces as things of their own: saved versions, live materializations, commands (execs), terminals (ptys), their streams.

alter table workspaces add column current_version_id uuid;
alter table workspaces add column last_materialization_id uuid;
-- The live copy is stopped then: nothing has used it since.
alter table workspaces add column auto_stop_at timestamptz;
-- An archived workspace's files are removed then.
alter table workspaces add column auto_delete_at timestamptz;
alter table workspaces add column archived_at timestamptz;
alter table workspaces add column deleted_at timestamptz;
create index workspaces_by_age on workspaces (environment_id, created_at desc, id desc);
create index workspaces_auto_stop on workspaces (auto_stop_at) where auto_stop_at is not null;
create index workspaces_auto_delete on workspaces (auto_delete_at) where auto_delete_at is not null;

-- Saved states: immutable, recorded when all of their artifacts are stored. reason: what made it; `user` kinds are never pruned.
create table workspace_versions (
  id uuid primary key,
  environment_id uuid not null,
  workspace_id uuid not null references workspaces on delete cascade,
  parent_version_id uuid,
  kind text not null check (kind in ('user', 'system')),
  reason text not null check (reason in ('run', 'stop', 'checkpoint', 'request', 'restore', 'fork', 'upload')),
  -- The run whose files these are, of a run's own saves.
  run_id uuid,
  manifest_digest text not null,
  -- Of the tree, however it is packed: equal trees have equal ones.
  content_digest text not null,
  artifact_encoding text not null,
  artifact_entry_count integer not null,
  size_bytes bigint not null,
  message text,
  -- When it became the workspace's current version.
  promoted_at timestamptz,
  created_at timestamptz not null default now()
);
create index workspace_versions_by_age on workspace_versions (workspace_id, created_at desc, id desc);

-- Every artifact that a version needs, its manifest included: what garbage collection asks.
create table workspace_version_artifacts (
  version_id uuid not null references workspace_versions on delete cascade,
  digest text not null,
  primary key (version_id, digest)
);
create index workspace_version_artifacts_by_digest on workspace_version_artifacts (digest);

-- What somebody is about to store or to refer to: kept until then, or until the lease is over. lease_id: of a run, a
-- materialization, or an upload of the control plane's own.
create table artifact_reservations (
  digest text not null,
  lease_id uuid not null,
  created_at timestamptz not null default now(),
  primary key (lease_id, digest)
);
create index artifact_reservations_by_digest on artifact_reservations (digest);

-- Live copies. Of a run (run_id): the guest is the run's, the lease is the run's. Else a guest of its own, leased to a worker.
create table workspace_materializations (
  id uuid primary key,
  environment_id uuid not null,
  project_id uuid not null,
  workspace_id uuid not null references workspaces on delete cascade,
  deployment_sandbox_id uuid not null,
  base_version_id uuid,
  run_id uuid,
  worker_instance_id uuid,
  lease_id uuid,
  state text not null check (state in
    ('requested', 'materializing', 'restoring', 'running', 'capturing', 'stopping', 'stopped', 'lost', 'failed')),
  claim_attempt integer not null default 0,
  -- The fencing number of the lease.
  fencing_generation bigint not null default 0,
  -- Counts the saves that found changes.
  dirty_generation bigint not null default 0,
  reservation_expires_at timestamptz,
  last_heartbeat_at timestamptz,
  stop_requested_at timestamptz,
  -- Of the last command for the worker; of the last append item of this lease that counts.
  command_seq bigint not null default 0,
  append_number bigint not null default 0,
  error jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  ended_at timestamptz,
  check ((state in ('stopped', 'lost', 'failed')) = (ended_at is not null))
) with (fillfactor = 75);
create unique index workspace_materializations_live on workspace_materializations (workspace_id) where ended_at is null;
create index workspace_materializations_requested on workspace_materializations (created_at) where state = 'requested';
create index workspace_materializations_by_worker on workspace_materializations (worker_instance_id) where ended_at is null;
create index workspace_materializations_by_run on workspace_materializations (run_id) where ended_at is null and run_id is not null;
create unique index workspace_materializations_by_lease on workspace_materializations (lease_id)
  where ended_at is null and run_id is null and lease_id is not null;
create index workspace_materializations_due on workspace_materializations (reservation_expires_at) where ended_at is null;

-- What the worker of a materialization is to do, in order: an outbox, emptied as the worker acknowledges it.
create table workspace_commands (
  materialization_id uuid not null references workspace_materializations on delete cascade,
  seq bigint not null,
  body jsonb not null,
  -- Bytes that go with it: a piece of input.
  data bytea,
  created_at timestamptz not null default now(),
  primary key (materialization_id, seq)
);

-- Questions to the worker of a materialization that a caller waits for: saving now, reading live files.
create table workspace_requests (
  id uuid primary key,
  materialization_id uuid not null references workspace_materializations on delete cascade,
  environment_id uuid not null,
  status text not null check (status in ('pending', 'done', 'failed')),
  params jsonb not null,
  result jsonb,
  data bytea,
  created_at timestamptz not null default now(),
  -- Nobody waits any more then.
  expires_at timestamptz not null
);
create index workspace_requests_due on workspace_requests (expires_at);

create table workspace_execs (
  id uuid primary key,
  environment_id uuid not null,
  workspace_id uuid not null references workspaces on delete cascade,
  materialization_id uuid,
  command jsonb not null,
  cwd text not null default '',
  env_shape jsonb,
  detached boolean not null default false,
  state text not null check (state in ('queued', 'materializing', 'running', 'exited', 'terminated', 'lost', 'failed')),
  process_id text,
  exit_code integer,
  signal text,
  error jsonb,
  -- Bytes so far; of what is retained, the first (by output streams: what was before is gone).
  stdout_cursor bigint not null default 0,
  stderr_cursor bigint not null default 0,
  stdin_cursor bigint not null default 0,
  stdout_retained bigint not null default 0,
  stderr_retained bigint not null default 0,
  -- How far an attached reader has come, and when it was last seen: what holds back the process of a slow reader.
  stdout_read bigint not null default 0,
  stderr_read bigint not null default 0,
  stdout_read_at timestamptz,
  stderr_read_at timestamptz,
  stdin_closed_at timestamptz,
  -- Long after its end nothing of its streams is kept.
  streams_removed_at timestamptz,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  exited_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 75);
create index workspace_execs_by_age on workspace_execs (workspace_id, created_at desc, id desc);
create index workspace_execs_active on workspace_execs (workspace_id)
  where state in ('queued', 'materializing', 'running');
create index workspace_execs_to_empty on workspace_execs (exited_at)
  where exited_at is not null and streams_removed_at is null;

create table workspace_ptys (
  id uuid primary key,
  environment_id uuid not null,
  workspace_id uuid not null references workspaces on delete cascade,
  materialization_id uuid,
  cwd text not null default '',
  cols integer not null,
  rows integer not null,
  state text not null check (state in ('creating', 'open', 'resizing', 'closing', 'closed', 'lost', 'failed')),
  process_id text,
  error jsonb,
  output_cursor bigint not null default 0,
  output_retained bigint not null default 0,
  output_read bigint not null default 0,
  output_read_at timestamptz,
  input_cursor bigint not null default 0,
  streams_removed_at timestamptz,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  closed_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 75);
create index workspace_ptys_by_age on workspace_ptys (workspace_id, created_at desc, id desc);
create index workspace_ptys_active on workspace_ptys (workspace_id) where state in ('creating', 'open', 'resizing', 'closing');
create index workspace_ptys_to_empty on workspace_ptys (closed_at) where closed_at is not null and streams_removed_at is null;

-- Byte streams of execs and ptys. No references: they go with their workspace, in pages (deletion/purge.ts).
create table workspace_stream_chunks (
  resource_id uuid not null,
  stream text not null check (stream in ('stdout', 'stderr', 'stdin', 'output', 'input')),
  offset_start bigint not null,
  offset_end bigint not null,
  id uuid not null,
  workspace_id uuid not null,
  data bytea not null,
  observed_at timestamptz not null,
  created_at timestamptz not null default now(),
  primary key (resource_id, stream, offset_start)
);
create index workspace_stream_chunks_by_workspace on workspace_stream_chunks (workspace_id);

-- The files at the instant of the checkpoint; an older checkpoint has them in its archive.
alter table run_checkpoints add column workspace_version_id uuid references workspace_versions;
create index run_checkpoints_by_version on run_checkpoints (workspace_version_id) where workspace_version_id is not null;
