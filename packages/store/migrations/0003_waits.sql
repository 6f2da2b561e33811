-- What runs wait for: input streams, tokens, timers; what they say on output streams; and the checkpoints of parked runs.

-- Declared by the deployment's task modules.
create table deployment_streams (
  deployment_id uuid not null references deployments on delete cascade,
  name text not null,
  direction text not null check (direction in ('input', 'output')),
  -- Of the stream's Standard Schema; null: no schema.
  schema_vendor text,
  primary key (deployment_id, direction, name)
);

-- sequence: of the last record, 0 before the first; allocated under the row's lock.
create table session_streams (
  id uuid primary key,
  environment_id uuid not null references environments,
  session_id uuid not null references sessions on delete cascade,
  name text not null,
  direction text not null check (direction in ('input', 'output')),
  sequence bigint not null default 0,
  created_at timestamptz not null default now(),
  unique (session_id, direction, name)
) with (fillfactor = 75);

create table stream_records (
  stream_id uuid not null references session_streams on delete cascade,
  sequence bigint not null,
  id uuid not null,
  data json not null,
  correlation_id text,
  content_type text not null,
  idempotency_key text,
  fingerprint bytea,
  created_at timestamptz not null default now(),
  primary key (stream_id, sequence)
);
create index stream_records_by_correlation on stream_records (stream_id, correlation_id, sequence)
  where correlation_id is not null;
create unique index stream_records_idempotency on stream_records (stream_id, idempotency_key)
  where idempotency_key is not null;

-- How far an input stream was read, by correlation id ('' reads all). committed_sequence: by runs that have ended; a run
-- begins there, again at each attempt from the start. taken_sequence: by the current attempt, too.
create table stream_cursors (
  stream_id uuid not null references session_streams on delete cascade,
  correlation_id text not null,
  committed_sequence bigint not null default 0,
  taken_sequence bigint not null default 0,
  primary key (stream_id, correlation_id)
);

-- Input came while the current run was busy: a continuation run follows when that run ends without having taken it.
create table session_continuations (
  session_id uuid primary key references sessions on delete cascade,
  environment_id uuid not null,
  requested_at timestamptz not null default now()
);

-- Tokens: pending -> completed | cancelled; expired is pending whose timeout_at has passed. The secrets of a token (callback,
-- public access) are derived from its id and the installation's key: nothing of them is stored.
create table tokens (
  id uuid primary key,
  environment_id uuid not null references environments,
  status text not null check (status in ('pending', 'completed', 'cancelled')),
  timeout_at timestamptz not null,
  data json,
  tags text[] not null default '{}',
  metadata jsonb not null default '{}',
  idempotency_key text,
  fingerprint bytea,
  run_id uuid,
  created_at timestamptz not null default now(),
  completed_at timestamptz,
  cancelled_at timestamptz,
  check ((status = 'completed') = (completed_at is not null)),
  check ((status = 'cancelled') = (cancelled_at is not null))
);
create index tokens_by_age on tokens (environment_id, id);
create index tokens_by_status on tokens (environment_id, status, id);
create index tokens_due on tokens (environment_id, timeout_at) where status = 'pending';
create index tokens_by_end on tokens ((coalesce(completed_at, cancelled_at, timeout_at)));
create unique index tokens_idempotency on tokens (environment_id, idempotency_key) where idempotency_key is not null;

-- Bearer tokens for browsers: one stream of one session.
create table public_access_tokens (
  id uuid primary key,
  environment_id uuid not null references environments,
  token_hash bytea not null unique,
  scope_type text not null check (scope_type in ('session.input.send', 'session.output.read')),
  session_id uuid not null references sessions on delete cascade,
  stream text not null,
  correlation_id text,
  max_uses integer,
  uses integer not null default 0,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  created_at timestamptz not null default now()
);
create index public_access_tokens_by_session on public_access_tokens (session_id);
create index public_access_tokens_due on public_access_tokens (expires_at);

-- Waits of runs: pending -> completed | timed_out | cancelled. number: the guest's, so that a repeated request is one wait.
create table run_waits (
  id uuid primary key,
  environment_id uuid not null,
  run_id uuid not null references runs on delete cascade,
  attempt_number integer not null,
  number integer not null,
  kind text not null check (kind in ('stream', 'token', 'timer')),
  status text not null check (status in ('pending', 'completed', 'timed_out', 'cancelled')),
  params jsonb not null,
  metadata jsonb not null default '{}',
  tags text[] not null default '{}',
  -- No references: streams go after their session's runs, tokens when no wait for them is pending.
  stream_id uuid,
  correlation_id text,
  after_sequence bigint,
  token_id uuid,
  -- Null: waits for ever. Of a timer: when it is over.
  timeout_at timestamptz,
  -- JSON text of what the wait gives: the record's, the token's data, nothing for a timer.
  result json,
  created_at timestamptz not null default now(),
  resolved_at timestamptz,
  unique (run_id, attempt_number, number),
  check ((status = 'pending') = (resolved_at is null))
);
create unique index run_waits_pending on run_waits (run_id) where status = 'pending';
create index run_waits_on_stream on run_waits (stream_id) where status = 'pending' and stream_id is not null;
create index run_waits_on_token on run_waits (token_id) where status = 'pending' and token_id is not null;
create index run_waits_due on run_waits (timeout_at) where status = 'pending' and timeout_at is not null;

-- A whole guest at one of its waits. One per run counts; the one before it goes when the next is recorded.
create table run_checkpoints (
  id uuid primary key,
  run_id uuid not null unique references runs on delete cascade,
  wait_id uuid not null references run_waits on delete cascade,
  -- What a worker needs to restore it: driver, versions, processor, root, link state, artifact, sizes (worker-api.ts).
  manifest jsonb not null,
  artifact_digest text not null,
  size_bytes bigint not null,
  -- Restores that failed; beyond the limit the run starts again without it.
  failed_restores integer not null default 0,
  -- Workers that failed at it: they are asked again only when no other one can.
  failed_on uuid[] not null default '{}',
  -- The run has said that no worker can restore it.
  waiting_noted boolean not null default false,
  created_at timestamptz not null default now()
);
create index run_checkpoints_by_artifact on run_checkpoints (artifact_digest);
-- Artifacts that something referred to that is gone: checkpoints, sources of deployments. The dispatcher removes those from
-- the store that nothing refers to any more.
create table discarded_artifacts (
  digest text primary key,
  discarded_at timestamptz not null default now()
);
create index discarded_artifacts_by_age on discarded_artifacts (discarded_at);

alter table runs add column checkpoint_id uuid;
-- Time the run was active before its current lease, for max_duration_seconds: parked time does not count.
alter table runs add column active_ms bigint not null default 0;
alter table runs drop constraint runs_execution_status_check;
alter table runs add constraint runs_execution_status_check check (execution_status in
  ('queued', 'leased', 'running', 'waiting', 'parked', 'resume_queued', 'retry_scheduled', 'cancelling', 'finished'));
alter table runs drop constraint runs_check;
alter table runs add constraint runs_lease_check check (
  case when status = 'running' then lease_id is not null when status = 'waiting' then true else lease_id is null end);
alter table runs add constraint runs_parked_check check (
  (execution_status = 'parked') = (status = 'waiting' and lease_id is null));
-- A run that has a checkpoint keeps its workspace, whether it is parked, queued to resume or running again.
drop index runs_active_in_workspace;
create unique index runs_active_in_workspace on runs (workspace_id)
  where status in ('running', 'waiting') or execution_status = 'resume_queued';
-- A lane's places are taken by runs that hold a lease: running ones, and those that wait without being parked.
drop index runs_active_in_lane;
create index runs_active_in_lane on runs (environment_id, queue_name, lane_key) where limited and lease_id is not null;

-- Deleting a wait asks for the checkpoint that refers to it.
create index run_checkpoints_by_wait on run_checkpoints (wait_id);
