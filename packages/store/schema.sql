-- Generated from migrations/ by test/schema.test.ts: `npx vitest run packages/store/test/schema --update`.

create table api_keys (
  id uuid not null,
  environment_id uuid not null,
  name text not null,
  key_hash bytea not null,
  key_prefix text not null,
  scopes text[] not null,
  created_at timestamp with time zone not null default now(),
  last_used_at timestamp with time zone,
  expires_at timestamp with time zone,
  revoked_at timestamp with time zone,
  created_by_user_id uuid,
  constraint api_keys_created_by_user_id_fkey FOREIGN KEY (created_by_user_id) REFERENCES users(id) ON DELETE CASCADE,
  constraint api_keys_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint api_keys_key_hash_key UNIQUE (key_hash),
  constraint api_keys_pkey PRIMARY KEY (id)
) with ();
CREATE INDEX api_keys_by_creator ON public.api_keys USING btree (created_by_user_id);
CREATE INDEX api_keys_by_environment ON public.api_keys USING btree (environment_id, created_at DESC, id DESC);

create table artifact_reservations (
  digest text not null,
  lease_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint artifact_reservations_pkey PRIMARY KEY (lease_id, digest)
) with ();
CREATE INDEX artifact_reservations_by_digest ON public.artifact_reservations USING btree (digest);

create table audit_log (
  id uuid not null,
  organization_id uuid,
  project_id uuid,
  environment_id uuid,
  actor_kind text not null,
  actor_id uuid,
  actor_label text not null,
  action text not null,
  resource_kind text not null,
  resource_id text,
  address text,
  user_agent text,
  request_id text,
  attributes jsonb not null default '{}'::jsonb,
  at timestamp with time zone not null default now(),
  constraint audit_log_actor_kind_check CHECK ((actor_kind = ANY (ARRAY['user'::text, 'api_key'::text, 'public_access_token'::text, 'callback_url'::text, 'system'::text, 'anonymous'::text]))),
  constraint audit_log_pkey PRIMARY KEY (id)
) with ();
CREATE INDEX audit_log_by_action ON public.audit_log USING btree (organization_id, action, id DESC);
CREATE INDEX audit_log_by_actor ON public.audit_log USING btree (organization_id, actor_id, id DESC);
CREATE INDEX audit_log_by_age ON public.audit_log USING btree (organization_id, id DESC);
CREATE INDEX audit_log_by_resource ON public.audit_log USING btree (organization_id, resource_id, id DESC);

create table current_deployments (
  environment_id uuid not null,
  deployment_id uuid not null,
  promoted_at timestamp with time zone not null default now(),
  reason text,
  constraint current_deployments_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id),
  constraint current_deployments_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint current_deployments_pkey PRIMARY KEY (environment_id)
) with ();

create table deployment_events (
  deployment_id uuid not null,
  seq bigint not null,
  category text not null,
  severity text not null,
  source text not null,
  kind text not null,
  message text not null,
  attributes jsonb not null,
  occurred_at timestamp with time zone not null,
  at timestamp with time zone not null default now(),
  constraint deployment_events_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE,
  constraint deployment_events_pkey PRIMARY KEY (deployment_id, seq)
) with ();

create table deployment_queues (
  deployment_id uuid not null,
  name text not null,
  concurrency_limit integer,
  constraint deployment_queues_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE,
  constraint deployment_queues_pkey PRIMARY KEY (deployment_id, name)
) with ();

create table deployment_sandboxes (
  id uuid not null,
  deployment_id uuid not null,
  environment_id uuid not null,
  sandbox_id text not null,
  fingerprint text not null,
  image_digest text not null,
  definition jsonb not null,
  created_at timestamp with time zone not null default now(),
  constraint deployment_sandboxes_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE,
  constraint deployment_sandboxes_deployment_id_sandbox_id_key UNIQUE (deployment_id, sandbox_id),
  constraint deployment_sandboxes_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint deployment_sandboxes_pkey PRIMARY KEY (id)
) with ();

create table deployment_streams (
  deployment_id uuid not null,
  name text not null,
  direction text not null,
  schema_vendor text,
  constraint deployment_streams_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE,
  constraint deployment_streams_direction_check CHECK ((direction = ANY (ARRAY['input'::text, 'output'::text]))),
  constraint deployment_streams_pkey PRIMARY KEY (deployment_id, direction, name)
) with ();

create table deployment_tasks (
  id uuid not null,
  deployment_id uuid not null,
  environment_id uuid not null,
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
  created_at timestamp with time zone not null default now(),
  schedule jsonb,
  constraint deployment_tasks_deployment_id_fkey FOREIGN KEY (deployment_id) REFERENCES deployments(id) ON DELETE CASCADE,
  constraint deployment_tasks_deployment_id_task_id_key UNIQUE (deployment_id, task_id),
  constraint deployment_tasks_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint deployment_tasks_pkey PRIMARY KEY (id)
) with ();

create table deployment_versions (
  environment_id uuid not null,
  day text not null,
  last_number integer not null,
  constraint deployment_versions_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint deployment_versions_pkey PRIMARY KEY (environment_id, day)
) with ();

create table deployments (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  version text not null,
  status text not null,
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
  worker_instance_id uuid,
  fencing bigint not null default 0,
  lease_expires_at timestamp with time zone,
  append_number bigint not null default 0,
  created_at timestamp with time zone not null default now(),
  building_at timestamp with time zone,
  built_at timestamp with time zone,
  deployed_at timestamp with time zone,
  failed_at timestamp with time zone,
  worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'::uuid,
  architecture text,
  events_removed_at timestamp with time zone,
  constraint deployments_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint deployments_environment_id_version_key UNIQUE (environment_id, version),
  constraint deployments_pkey PRIMARY KEY (id),
  constraint deployments_project_id_fkey FOREIGN KEY (project_id) REFERENCES projects(id),
  constraint deployments_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'building'::text, 'deployed'::text, 'failed'::text]))),
  constraint deployments_worker_group_id_fkey FOREIGN KEY (worker_group_id) REFERENCES worker_groups(id),
  constraint deployments_worker_instance_id_fkey FOREIGN KEY (worker_instance_id) REFERENCES worker_instances(id)
) with ();
CREATE INDEX deployments_by_age ON public.deployments USING btree (environment_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX deployments_by_lease ON public.deployments USING btree (lease_id) WHERE (lease_id IS NOT NULL);
CREATE INDEX deployments_by_source ON public.deployments USING btree (source_digest);
CREATE INDEX deployments_by_worker_group ON public.deployments USING btree (worker_group_id);
CREATE INDEX deployments_events_kept ON public.deployments USING btree (created_at) WHERE ((status = ANY (ARRAY['deployed'::text, 'failed'::text])) AND (events_removed_at IS NULL));
CREATE INDEX deployments_in_flight_content ON public.deployments USING btree (environment_id, content_hash) WHERE (status = ANY (ARRAY['queued'::text, 'building'::text]));
CREATE INDEX deployments_to_build ON public.deployments USING btree (worker_group_id, created_at) WHERE (status = 'queued'::text);
CREATE INDEX deployments_unfinished ON public.deployments USING btree (created_at) WHERE (status = ANY (ARRAY['queued'::text, 'building'::text]));

create table device_codes (
  id uuid not null,
  device_code_hash bytea not null,
  user_code text not null,
  status text not null,
  user_id uuid,
  organization_id uuid,
  interval_seconds integer not null,
  last_polled_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint device_codes_check CHECK (((status = ANY (ARRAY['approved'::text, 'consumed'::text])) = ((user_id IS NOT NULL) AND (organization_id IS NOT NULL)))),
  constraint device_codes_device_code_hash_key UNIQUE (device_code_hash),
  constraint device_codes_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
  constraint device_codes_pkey PRIMARY KEY (id),
  constraint device_codes_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'approved'::text, 'denied'::text, 'consumed'::text]))),
  constraint device_codes_user_code_key UNIQUE (user_code),
  constraint device_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
) with ();
CREATE INDEX device_codes_by_user ON public.device_codes USING btree (user_id) WHERE (status = 'approved'::text);
CREATE INDEX device_codes_due ON public.device_codes USING btree (expires_at);

create table discarded_artifacts (
  digest text not null,
  discarded_at timestamp with time zone not null default now(),
  constraint discarded_artifacts_pkey PRIMARY KEY (digest)
) with ();
CREATE INDEX discarded_artifacts_by_age ON public.discarded_artifacts USING btree (discarded_at);

create table environments (
  id uuid not null,
  organization_id uuid not null,
  project_id uuid not null,
  slug text not null,
  name text not null,
  color_hex text not null,
  is_default boolean not null default false,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  deleting_at timestamp with time zone,
  worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'::uuid,
  constraint environments_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id),
  constraint environments_pkey PRIMARY KEY (id),
  constraint environments_project_id_fkey FOREIGN KEY (project_id) REFERENCES projects(id),
  constraint environments_project_id_slug_key UNIQUE (project_id, slug),
  constraint environments_worker_group_id_fkey FOREIGN KEY (worker_group_id) REFERENCES worker_groups(id)
) with ();
CREATE INDEX environments_by_worker_group ON public.environments USING btree (worker_group_id);
CREATE INDEX environments_deleting ON public.environments USING btree (deleting_at) WHERE (deleting_at IS NOT NULL);

create table idempotency_keys (
  environment_id uuid not null,
  scope_name text not null,
  key text not null,
  fingerprint bytea not null,
  resource_id uuid not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint idempotency_keys_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint idempotency_keys_pkey PRIMARY KEY (environment_id, scope_name, key)
) with ();
CREATE INDEX idempotency_keys_due ON public.idempotency_keys USING btree (expires_at);

create table invitations (
  id uuid not null,
  organization_id uuid not null,
  email text not null,
  role text not null,
  token_hash bytea not null,
  invited_by_user_id uuid,
  accepted_by_user_id uuid,
  revoked_by_user_id uuid,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  accepted_at timestamp with time zone,
  revoked_at timestamp with time zone,
  constraint invitations_accepted_by_user_id_fkey FOREIGN KEY (accepted_by_user_id) REFERENCES users(id) ON DELETE SET NULL,
  constraint invitations_check CHECK (((accepted_at IS NULL) OR (revoked_at IS NULL))),
  constraint invitations_invited_by_user_id_fkey FOREIGN KEY (invited_by_user_id) REFERENCES users(id) ON DELETE SET NULL,
  constraint invitations_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
  constraint invitations_pkey PRIMARY KEY (id),
  constraint invitations_revoked_by_user_id_fkey FOREIGN KEY (revoked_by_user_id) REFERENCES users(id) ON DELETE SET NULL,
  constraint invitations_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'developer'::text, 'viewer'::text]))),
  constraint invitations_token_hash_key UNIQUE (token_hash)
) with ();
CREATE INDEX invitations_by_age ON public.invitations USING btree (organization_id, created_at DESC, id DESC);

create table magic_links (
  token_hash bytea not null,
  email text not null,
  redirect_after text not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  consumed_at timestamp with time zone,
  constraint magic_links_pkey PRIMARY KEY (token_hash)
) with ();
CREATE INDEX magic_links_due ON public.magic_links USING btree (expires_at);

create table oauth_attempts (
  state_hash bytea not null,
  provider text not null,
  browser_hash bytea not null,
  code_verifier text not null,
  nonce text,
  redirect_after text not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  consumed_at timestamp with time zone,
  constraint oauth_attempts_pkey PRIMARY KEY (state_hash),
  constraint oauth_attempts_provider_check CHECK ((provider = ANY (ARRAY['github'::text, 'oidc'::text])))
) with ();
CREATE INDEX oauth_attempts_due ON public.oauth_attempts USING btree (expires_at);

create table organization_members (
  organization_id uuid not null,
  user_id uuid not null,
  role text not null,
  status text not null default 'active'::text,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  disabled_at timestamp with time zone,
  constraint organization_members_check CHECK (((status = 'disabled'::text) = (disabled_at IS NOT NULL))),
  constraint organization_members_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE CASCADE,
  constraint organization_members_pkey PRIMARY KEY (organization_id, user_id),
  constraint organization_members_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'developer'::text, 'viewer'::text]))),
  constraint organization_members_status_check CHECK ((status = ANY (ARRAY['active'::text, 'disabled'::text]))),
  constraint organization_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
) with ();
CREATE INDEX organization_members_by_user ON public.organization_members USING btree (user_id);

create table organizations (
  id uuid not null,
  slug text not null,
  name text not null,
  created_at timestamp with time zone not null default now(),
  constraint organizations_pkey PRIMARY KEY (id),
  constraint organizations_slug_key UNIQUE (slug)
) with ();

create table paused_queues (
  environment_id uuid not null,
  name text not null,
  paused_at timestamp with time zone not null default now(),
  constraint paused_queues_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint paused_queues_pkey PRIMARY KEY (environment_id, name)
) with ();

create table projects (
  id uuid not null,
  organization_id uuid not null,
  slug text not null,
  name text not null,
  is_default boolean not null default false,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  deleting_at timestamp with time zone,
  constraint projects_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id),
  constraint projects_organization_id_slug_key UNIQUE (organization_id, slug),
  constraint projects_pkey PRIMARY KEY (id)
) with ();
CREATE INDEX projects_deleting ON public.projects USING btree (deleting_at) WHERE (deleting_at IS NOT NULL);

create table public_access_tokens (
  id uuid not null,
  environment_id uuid not null,
  token_hash bytea not null,
  scope_type text not null,
  session_id uuid not null,
  stream text not null,
  correlation_id text,
  max_uses integer,
  uses integer not null default 0,
  expires_at timestamp with time zone not null,
  revoked_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  constraint public_access_tokens_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint public_access_tokens_pkey PRIMARY KEY (id),
  constraint public_access_tokens_scope_type_check CHECK ((scope_type = ANY (ARRAY['session.input.send'::text, 'session.output.read'::text]))),
  constraint public_access_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE,
  constraint public_access_tokens_token_hash_key UNIQUE (token_hash)
) with ();
CREATE INDEX public_access_tokens_by_session ON public.public_access_tokens USING btree (session_id);
CREATE INDEX public_access_tokens_due ON public.public_access_tokens USING btree (expires_at);

create table queues (
  environment_id uuid not null,
  name text not null,
  concurrency_limit integer,
  constraint queues_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint queues_pkey PRIMARY KEY (environment_id, name)
) with ();

create table run_checkpoints (
  id uuid not null,
  run_id uuid not null,
  wait_id uuid not null,
  manifest jsonb not null,
  artifact_digest text not null,
  size_bytes bigint not null,
  failed_restores integer not null default 0,
  failed_on uuid[] not null default '{}'::uuid[],
  waiting_noted boolean not null default false,
  created_at timestamp with time zone not null default now(),
  workspace_version_id uuid,
  constraint run_checkpoints_pkey PRIMARY KEY (id),
  constraint run_checkpoints_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs(id) ON DELETE CASCADE,
  constraint run_checkpoints_run_id_key UNIQUE (run_id),
  constraint run_checkpoints_wait_id_fkey FOREIGN KEY (wait_id) REFERENCES run_waits(id) ON DELETE CASCADE,
  constraint run_checkpoints_workspace_version_id_fkey FOREIGN KEY (workspace_version_id) REFERENCES workspace_versions(id)
) with ();
CREATE INDEX run_checkpoints_by_artifact ON public.run_checkpoints USING btree (artifact_digest);
CREATE INDEX run_checkpoints_by_version ON public.run_checkpoints USING btree (workspace_version_id) WHERE (workspace_version_id IS NOT NULL);
CREATE INDEX run_checkpoints_by_wait ON public.run_checkpoints USING btree (wait_id);

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
  constraint run_counts_pkey PRIMARY KEY (environment_id, shard)
) with (fillfactor=20);

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
  redaction_class text not null default 'none'::text,
  attributes jsonb not null,
  occurred_at timestamp with time zone not null,
  at timestamp with time zone not null default now(),
  constraint run_events_pkey PRIMARY KEY (run_id, seq)
) with ();

create table run_logs (
  run_id uuid not null,
  seq bigint not null,
  run_lease_id uuid not null,
  attempt_id uuid,
  attempt_number integer not null,
  stream text not null,
  observed_seq bigint not null,
  content bytea not null,
  occurred_at timestamp with time zone not null,
  at timestamp with time zone not null default now(),
  constraint run_logs_pkey PRIMARY KEY (run_id, seq),
  constraint run_logs_stream_check CHECK ((stream = ANY (ARRAY['stdout'::text, 'stderr'::text])))
) with ();

create table run_operations (
  id uuid not null,
  environment_id uuid not null,
  run_id uuid not null,
  kind text not null,
  status text not null,
  reason text,
  idempotency_key text,
  fingerprint bytea not null,
  created_at timestamp with time zone not null default now(),
  applied_at timestamp with time zone,
  constraint run_operations_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint run_operations_kind_check CHECK ((kind = 'cancel'::text)),
  constraint run_operations_pkey PRIMARY KEY (id),
  constraint run_operations_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs(id) ON DELETE CASCADE,
  constraint run_operations_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'applied'::text, 'rejected'::text])))
) with ();
CREATE INDEX run_operations_by_run ON public.run_operations USING btree (run_id);
CREATE UNIQUE INDEX run_operations_idempotency ON public.run_operations USING btree (run_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);
CREATE INDEX run_operations_pending ON public.run_operations USING btree (run_id) WHERE (status = 'pending'::text);

create table run_waits (
  id uuid not null,
  environment_id uuid not null,
  run_id uuid not null,
  attempt_number integer not null,
  number integer not null,
  kind text not null,
  status text not null,
  params jsonb not null,
  metadata jsonb not null default '{}'::jsonb,
  tags text[] not null default '{}'::text[],
  stream_id uuid,
  correlation_id text,
  after_sequence bigint,
  token_id uuid,
  timeout_at timestamp with time zone,
  result json,
  created_at timestamp with time zone not null default now(),
  resolved_at timestamp with time zone,
  constraint run_waits_check CHECK (((status = 'pending'::text) = (resolved_at IS NULL))),
  constraint run_waits_kind_check CHECK ((kind = ANY (ARRAY['stream'::text, 'token'::text, 'timer'::text]))),
  constraint run_waits_pkey PRIMARY KEY (id),
  constraint run_waits_run_id_attempt_number_number_key UNIQUE (run_id, attempt_number, number),
  constraint run_waits_run_id_fkey FOREIGN KEY (run_id) REFERENCES runs(id) ON DELETE CASCADE,
  constraint run_waits_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'timed_out'::text, 'cancelled'::text])))
) with ();
CREATE INDEX run_waits_due ON public.run_waits USING btree (timeout_at) WHERE ((status = 'pending'::text) AND (timeout_at IS NOT NULL));
CREATE INDEX run_waits_on_stream ON public.run_waits USING btree (stream_id) WHERE ((status = 'pending'::text) AND (stream_id IS NOT NULL));
CREATE INDEX run_waits_on_token ON public.run_waits USING btree (token_id) WHERE ((status = 'pending'::text) AND (token_id IS NOT NULL));
CREATE UNIQUE INDEX run_waits_pending ON public.run_waits USING btree (run_id) WHERE (status = 'pending'::text);

create table runs (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  session_id uuid not null,
  deployment_id uuid not null,
  deployment_task_id uuid not null,
  deployment_version text not null,
  workspace_id uuid not null,
  task_id text not null,
  turn_index integer not null default 0,
  previous_run_id uuid,
  reason text not null default 'initial'::text,
  status text not null,
  execution_status text not null,
  queue_name text not null,
  concurrency_key text,
  lane_key text not null generated always as (COALESCE(concurrency_key, ''::text)) stored,
  limited boolean not null default false,
  priority integer not null default 0,
  payload json not null,
  metadata jsonb not null default '{}'::jsonb,
  tags text[] not null default '{}'::text[],
  retry_policy jsonb not null,
  max_duration_seconds integer not null,
  ttl text,
  ttl_expires_at timestamp with time zone,
  available_at timestamp with time zone not null default now(),
  attempt_number integer not null default 0,
  lost_count integer not null default 0,
  attempt_id uuid,
  lease_id uuid,
  worker_instance_id uuid,
  fencing bigint not null default 0,
  lease_expires_at timestamp with time zone,
  append_number bigint not null default 0,
  cancel_requested_at timestamp with time zone,
  cancel_reason text,
  cancel_force boolean not null default false,
  event_seq bigint not null default 0,
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
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  ended_at timestamp with time zone,
  checkpoint_id uuid,
  active_ms bigint not null default 0,
  schedule_id uuid,
  worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'::uuid,
  needs_cpu integer not null default 0,
  needs_memory_mib bigint not null default 0,
  needs_disk_mib bigint not null default 0,
  needs_architecture text,
  waiting_reason text,
  trace_context text,
  events_removed_at timestamp with time zone,
  constraint runs_check1 CHECK (((status = ANY (ARRAY['succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text])) = (ended_at IS NOT NULL))),
  constraint runs_execution_status_check CHECK ((execution_status = ANY (ARRAY['queued'::text, 'leased'::text, 'running'::text, 'waiting'::text, 'parked'::text, 'resume_queued'::text, 'retry_scheduled'::text, 'cancelling'::text, 'finished'::text]))),
  constraint runs_lease_check CHECK (
CASE
    WHEN (status = 'running'::text) THEN (lease_id IS NOT NULL)
    WHEN (status = 'waiting'::text) THEN true
    ELSE (lease_id IS NULL)
END),
  constraint runs_parked_check CHECK (((execution_status = 'parked'::text) = ((status = 'waiting'::text) AND (lease_id IS NULL)))),
  constraint runs_pkey PRIMARY KEY (id),
  constraint runs_reason_check CHECK ((reason = ANY (ARRAY['initial'::text, 'input'::text]))),
  constraint runs_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id),
  constraint runs_status_check CHECK ((status = ANY (ARRAY['queued'::text, 'running'::text, 'waiting'::text, 'succeeded'::text, 'failed'::text, 'cancelled'::text, 'expired'::text]))),
  constraint runs_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id)
) with (fillfactor=75, autovacuum_vacuum_scale_factor=0.02, autovacuum_analyze_scale_factor=0.02);
CREATE INDEX runs_active_in_lane ON public.runs USING btree (environment_id, queue_name, lane_key) WHERE (limited AND (lease_id IS NOT NULL));
CREATE UNIQUE INDEX runs_active_in_workspace ON public.runs USING btree (workspace_id) WHERE ((status = ANY (ARRAY['running'::text, 'waiting'::text])) OR (execution_status = 'resume_queued'::text));
CREATE INDEX runs_by_age ON public.runs USING btree (environment_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX runs_by_lease ON public.runs USING btree (lease_id) WHERE (lease_id IS NOT NULL);
CREATE INDEX runs_by_schedule ON public.runs USING btree (schedule_id, created_at DESC, id DESC) WHERE (schedule_id IS NOT NULL);
CREATE INDEX runs_by_session ON public.runs USING btree (session_id, turn_index);
CREATE INDEX runs_by_status ON public.runs USING btree (environment_id, status, created_at DESC, id DESC);
CREATE INDEX runs_by_workspace ON public.runs USING btree (workspace_id);
CREATE INDEX runs_claimable ON public.runs USING btree (priority DESC, available_at, id) WHERE ((status = 'queued'::text) AND (NOT limited));
CREATE INDEX runs_events_kept ON public.runs USING btree (ended_at) WHERE ((ended_at IS NOT NULL) AND (events_removed_at IS NULL));
CREATE INDEX runs_held ON public.runs USING btree (worker_instance_id) WHERE (lease_id IS NOT NULL);
CREATE INDEX runs_lanes ON public.runs USING btree (environment_id, queue_name, lane_key, priority DESC, available_at, id) WHERE ((status = 'queued'::text) AND limited);
CREATE INDEX runs_queued ON public.runs USING btree (worker_group_id, environment_id, (((- (priority)::bigint) -
CASE
    WHEN (execution_status = 'resume_queued'::text) THEN '8589934592'::bigint
    ELSE (0)::bigint
END)), queue_name, lane_key, available_at, id, needs_cpu, needs_memory_mib, needs_disk_mib) WHERE (status = 'queued'::text);
CREATE INDEX runs_ttl ON public.runs USING btree (ttl_expires_at) WHERE ((status = 'queued'::text) AND (ttl_expires_at IS NOT NULL));
CREATE INDEX runs_waiting ON public.runs USING btree (worker_group_id, needs_cpu, needs_memory_mib, needs_disk_mib, COALESCE(needs_architecture, ''::text), waiting_reason, available_at) WHERE (status = 'queued'::text);

create table schedules (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  type text not null,
  task_id text not null,
  deduplication_key text,
  external_id text,
  cron text not null,
  timezone text not null,
  active boolean not null default true,
  options jsonb not null default '{}'::jsonb,
  next_fire_at timestamp with time zone,
  last_fire_at timestamp with time zone,
  due_at timestamp with time zone,
  attempt integer not null default 0,
  fencing bigint not null default 0,
  lease_expires_at timestamp with time zone,
  last_error text,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint schedules_check CHECK (((type = 'imperative'::text) = (deduplication_key IS NOT NULL))),
  constraint schedules_check1 CHECK (((next_fire_at IS NULL) = (due_at IS NULL))),
  constraint schedules_check2 CHECK ((active OR (due_at IS NULL))),
  constraint schedules_check3 CHECK (((lease_expires_at IS NULL) OR (due_at IS NOT NULL))),
  constraint schedules_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint schedules_pkey PRIMARY KEY (id),
  constraint schedules_type_check CHECK ((type = ANY (ARRAY['imperative'::text, 'declarative'::text])))
) with (fillfactor=75);
CREATE INDEX schedules_by_age ON public.schedules USING btree (environment_id, created_at DESC, id DESC);
CREATE UNIQUE INDEX schedules_declared ON public.schedules USING btree (environment_id, task_id) WHERE (type = 'declarative'::text);
CREATE UNIQUE INDEX schedules_deduplication ON public.schedules USING btree (environment_id, deduplication_key) WHERE (type = 'imperative'::text);
CREATE INDEX schedules_due ON public.schedules USING btree (due_at, id) WHERE (due_at IS NOT NULL);

create table schema_migrations (
  name text not null,
  sha256 text not null,
  applied_at timestamp with time zone not null default now(),
  compatible_with text,
  constraint schema_migrations_pkey PRIMARY KEY (name)
) with ();

create table secrets (
  environment_id uuid not null,
  name text not null,
  key_id text not null,
  data_key bytea not null,
  nonce bytea not null,
  ciphertext bytea not null,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint secrets_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint secrets_pkey PRIMARY KEY (environment_id, name)
) with ();
CREATE INDEX secrets_by_key ON public.secrets USING btree (key_id, environment_id, name);

create table session_continuations (
  session_id uuid not null,
  environment_id uuid not null,
  requested_at timestamp with time zone not null default now(),
  constraint session_continuations_pkey PRIMARY KEY (session_id),
  constraint session_continuations_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
) with ();

create table session_streams (
  id uuid not null,
  environment_id uuid not null,
  session_id uuid not null,
  name text not null,
  direction text not null,
  sequence bigint not null default 0,
  created_at timestamp with time zone not null default now(),
  constraint session_streams_direction_check CHECK ((direction = ANY (ARRAY['input'::text, 'output'::text]))),
  constraint session_streams_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint session_streams_pkey PRIMARY KEY (id),
  constraint session_streams_session_id_direction_name_key UNIQUE (session_id, direction, name),
  constraint session_streams_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
) with (fillfactor=75);

create table sessions (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  task_id text not null,
  initial_deployment_id uuid not null,
  active_deployment_id uuid not null,
  external_id text,
  start_fingerprint bytea not null,
  status text not null,
  current_run_id uuid,
  workspace_id uuid,
  metadata jsonb not null default '{}'::jsonb,
  tags text[] not null default '{}'::text[],
  result json,
  terminal_reason json,
  expires_at timestamp with time zone,
  expired_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  schedule_id uuid,
  constraint sessions_environment_id_external_id_key UNIQUE (environment_id, external_id),
  constraint sessions_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint sessions_pkey PRIMARY KEY (id),
  constraint sessions_project_id_fkey FOREIGN KEY (project_id) REFERENCES projects(id),
  constraint sessions_status_check CHECK ((status = ANY (ARRAY['open'::text, 'closed'::text, 'cancelled'::text, 'expired'::text]))),
  constraint sessions_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id)
) with ();
CREATE INDEX sessions_by_status ON public.sessions USING btree (environment_id, status, updated_at DESC, id DESC);
CREATE INDEX sessions_by_task ON public.sessions USING btree (environment_id, task_id, updated_at DESC, id DESC);
CREATE INDEX sessions_by_task_status ON public.sessions USING btree (environment_id, task_id, status, updated_at DESC, id DESC);
CREATE INDEX sessions_by_update ON public.sessions USING btree (environment_id, updated_at DESC, id DESC);
CREATE INDEX sessions_by_workspace ON public.sessions USING btree (workspace_id);
CREATE INDEX sessions_due ON public.sessions USING btree (expires_at) WHERE ((status = 'open'::text) AND (expires_at IS NOT NULL));
CREATE INDEX sessions_ended ON public.sessions USING btree (updated_at) WHERE (status <> 'open'::text);
CREATE INDEX sessions_of_schedules ON public.sessions USING btree (created_at) WHERE ((status = 'open'::text) AND (schedule_id IS NOT NULL));

create table stream_cursors (
  stream_id uuid not null,
  correlation_id text not null,
  committed_sequence bigint not null default 0,
  taken_sequence bigint not null default 0,
  constraint stream_cursors_pkey PRIMARY KEY (stream_id, correlation_id),
  constraint stream_cursors_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES session_streams(id) ON DELETE CASCADE
) with ();

create table stream_records (
  stream_id uuid not null,
  sequence bigint not null,
  id uuid not null,
  data json not null,
  correlation_id text,
  content_type text not null,
  idempotency_key text,
  fingerprint bytea,
  created_at timestamp with time zone not null default now(),
  constraint stream_records_pkey PRIMARY KEY (stream_id, sequence),
  constraint stream_records_stream_id_fkey FOREIGN KEY (stream_id) REFERENCES session_streams(id) ON DELETE CASCADE
) with ();
CREATE INDEX stream_records_by_correlation ON public.stream_records USING btree (stream_id, correlation_id, sequence) WHERE (correlation_id IS NOT NULL);
CREATE UNIQUE INDEX stream_records_idempotency ON public.stream_records USING btree (stream_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

create table tokens (
  id uuid not null,
  environment_id uuid not null,
  status text not null,
  timeout_at timestamp with time zone not null,
  data json,
  tags text[] not null default '{}'::text[],
  metadata jsonb not null default '{}'::jsonb,
  idempotency_key text,
  fingerprint bytea,
  run_id uuid,
  created_at timestamp with time zone not null default now(),
  completed_at timestamp with time zone,
  cancelled_at timestamp with time zone,
  constraint tokens_check CHECK (((status = 'completed'::text) = (completed_at IS NOT NULL))),
  constraint tokens_check1 CHECK (((status = 'cancelled'::text) = (cancelled_at IS NOT NULL))),
  constraint tokens_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint tokens_pkey PRIMARY KEY (id),
  constraint tokens_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'completed'::text, 'cancelled'::text])))
) with ();
CREATE INDEX tokens_by_age ON public.tokens USING btree (environment_id, id);
CREATE INDEX tokens_by_end ON public.tokens USING btree (COALESCE(completed_at, cancelled_at, timeout_at));
CREATE INDEX tokens_by_status ON public.tokens USING btree (environment_id, status, id);
CREATE INDEX tokens_due ON public.tokens USING btree (environment_id, timeout_at) WHERE (status = 'pending'::text);
CREATE UNIQUE INDEX tokens_idempotency ON public.tokens USING btree (environment_id, idempotency_key) WHERE (idempotency_key IS NOT NULL);

create table user_identities (
  provider text not null,
  issuer text not null,
  subject text not null,
  user_id uuid not null,
  created_at timestamp with time zone not null default now(),
  constraint user_identities_pkey PRIMARY KEY (provider, issuer, subject),
  constraint user_identities_provider_check CHECK ((provider = ANY (ARRAY['github'::text, 'oidc'::text, 'local'::text]))),
  constraint user_identities_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
) with ();
CREATE INDEX user_identities_by_user ON public.user_identities USING btree (user_id);

create table user_sessions (
  id uuid not null,
  user_id uuid not null,
  organization_id uuid,
  token_hash bytea not null,
  kind text not null,
  created_at timestamp with time zone not null default now(),
  last_used_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  revoked_at timestamp with time zone,
  address text,
  user_agent text,
  constraint user_sessions_kind_check CHECK ((kind = ANY (ARRAY['browser'::text, 'cli'::text]))),
  constraint user_sessions_organization_id_fkey FOREIGN KEY (organization_id) REFERENCES organizations(id) ON DELETE SET NULL,
  constraint user_sessions_pkey PRIMARY KEY (id),
  constraint user_sessions_token_hash_key UNIQUE (token_hash),
  constraint user_sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
) with ();
CREATE INDEX user_sessions_by_user ON public.user_sessions USING btree (user_id) WHERE (revoked_at IS NULL);
CREATE INDEX user_sessions_due ON public.user_sessions USING btree (expires_at);

create table users (
  id uuid not null,
  email text,
  display_name text not null,
  profile_image_url text,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint users_email_key UNIQUE (email),
  constraint users_pkey PRIMARY KEY (id)
) with ();

create table worker_bootstrap_tokens (
  id uuid not null,
  worker_group_id uuid not null,
  token_hash bytea not null,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone,
  revoked_at timestamp with time zone,
  name text not null default 'configured'::text,
  token_prefix text,
  last_used_at timestamp with time zone,
  constraint worker_bootstrap_tokens_pkey PRIMARY KEY (id),
  constraint worker_bootstrap_tokens_token_hash_key UNIQUE (token_hash),
  constraint worker_bootstrap_tokens_worker_group_id_fkey FOREIGN KEY (worker_group_id) REFERENCES worker_groups(id)
) with ();
CREATE INDEX worker_bootstrap_tokens_by_group ON public.worker_bootstrap_tokens USING btree (worker_group_id, created_at DESC, id DESC);

create table worker_groups (
  id uuid not null,
  name text not null,
  created_at timestamp with time zone not null default now(),
  labels jsonb not null default '{}'::jsonb,
  updated_at timestamp with time zone not null default now(),
  constraint worker_groups_name_key UNIQUE (name),
  constraint worker_groups_pkey PRIMARY KEY (id)
) with ();

create table worker_instances (
  id uuid not null,
  worker_group_id uuid not null,
  name text not null,
  credential_hash bytea not null,
  state text not null,
  version text not null,
  capacity jsonb not null,
  capabilities jsonb not null,
  registered_at timestamp with time zone not null default now(),
  last_heartbeat_at timestamp with time zone not null default now(),
  labels jsonb not null default '{}'::jsonb,
  capacity_free jsonb,
  drain_requested_at timestamp with time zone,
  bootstrap_token_id uuid,
  credential_issued_at timestamp with time zone not null default now(),
  previous_credential_hash bytea,
  previous_valid_until timestamp with time zone,
  claim_seq bigint not null default 0,
  constraint worker_instances_bootstrap_token_id_fkey FOREIGN KEY (bootstrap_token_id) REFERENCES worker_bootstrap_tokens(id),
  constraint worker_instances_credential_hash_key UNIQUE (credential_hash),
  constraint worker_instances_pkey PRIMARY KEY (id),
  constraint worker_instances_state_check CHECK ((state = ANY (ARRAY['active'::text, 'draining'::text, 'gone'::text]))),
  constraint worker_instances_worker_group_id_fkey FOREIGN KEY (worker_group_id) REFERENCES worker_groups(id)
) with ();
CREATE INDEX worker_instances_by_group ON public.worker_instances USING btree (worker_group_id, state);
CREATE UNIQUE INDEX worker_instances_by_previous_credential ON public.worker_instances USING btree (previous_credential_hash) WHERE (previous_credential_hash IS NOT NULL);

create table workspace_commands (
  materialization_id uuid not null,
  seq bigint not null,
  body jsonb not null,
  data bytea,
  created_at timestamp with time zone not null default now(),
  constraint workspace_commands_materialization_id_fkey FOREIGN KEY (materialization_id) REFERENCES workspace_materializations(id) ON DELETE CASCADE,
  constraint workspace_commands_pkey PRIMARY KEY (materialization_id, seq)
) with ();

create table workspace_execs (
  id uuid not null,
  environment_id uuid not null,
  workspace_id uuid not null,
  materialization_id uuid,
  command jsonb not null,
  cwd text not null default ''::text,
  env_shape jsonb,
  detached boolean not null default false,
  state text not null,
  process_id text,
  exit_code integer,
  signal text,
  error jsonb,
  stdout_cursor bigint not null default 0,
  stderr_cursor bigint not null default 0,
  stdin_cursor bigint not null default 0,
  stdout_retained bigint not null default 0,
  stderr_retained bigint not null default 0,
  stdout_read bigint not null default 0,
  stderr_read bigint not null default 0,
  stdout_read_at timestamp with time zone,
  stderr_read_at timestamp with time zone,
  stdin_closed_at timestamp with time zone,
  streams_removed_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  exited_at timestamp with time zone,
  updated_at timestamp with time zone not null default now(),
  constraint workspace_execs_pkey PRIMARY KEY (id),
  constraint workspace_execs_state_check CHECK ((state = ANY (ARRAY['queued'::text, 'materializing'::text, 'running'::text, 'exited'::text, 'terminated'::text, 'lost'::text, 'failed'::text]))),
  constraint workspace_execs_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
) with (fillfactor=75);
CREATE INDEX workspace_execs_active ON public.workspace_execs USING btree (workspace_id) WHERE (state = ANY (ARRAY['queued'::text, 'materializing'::text, 'running'::text]));
CREATE INDEX workspace_execs_by_age ON public.workspace_execs USING btree (workspace_id, created_at DESC, id DESC);
CREATE INDEX workspace_execs_to_empty ON public.workspace_execs USING btree (exited_at) WHERE ((exited_at IS NOT NULL) AND (streams_removed_at IS NULL));

create table workspace_materializations (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  workspace_id uuid not null,
  deployment_sandbox_id uuid not null,
  base_version_id uuid,
  run_id uuid,
  worker_instance_id uuid,
  lease_id uuid,
  state text not null,
  claim_attempt integer not null default 0,
  fencing_generation bigint not null default 0,
  dirty_generation bigint not null default 0,
  reservation_expires_at timestamp with time zone,
  last_heartbeat_at timestamp with time zone,
  stop_requested_at timestamp with time zone,
  command_seq bigint not null default 0,
  append_number bigint not null default 0,
  error jsonb,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  ended_at timestamp with time zone,
  worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'::uuid,
  needs_cpu integer not null default 0,
  needs_memory_mib bigint not null default 0,
  needs_disk_mib bigint not null default 0,
  needs_architecture text,
  constraint workspace_materializations_check CHECK (((state = ANY (ARRAY['stopped'::text, 'lost'::text, 'failed'::text])) = (ended_at IS NOT NULL))),
  constraint workspace_materializations_pkey PRIMARY KEY (id),
  constraint workspace_materializations_state_check CHECK ((state = ANY (ARRAY['requested'::text, 'materializing'::text, 'restoring'::text, 'running'::text, 'capturing'::text, 'stopping'::text, 'stopped'::text, 'lost'::text, 'failed'::text]))),
  constraint workspace_materializations_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
) with (fillfactor=75);
CREATE UNIQUE INDEX workspace_materializations_by_lease ON public.workspace_materializations USING btree (lease_id) WHERE ((ended_at IS NULL) AND (run_id IS NULL) AND (lease_id IS NOT NULL));
CREATE INDEX workspace_materializations_by_run ON public.workspace_materializations USING btree (run_id) WHERE ((ended_at IS NULL) AND (run_id IS NOT NULL));
CREATE INDEX workspace_materializations_by_worker ON public.workspace_materializations USING btree (worker_instance_id) WHERE (ended_at IS NULL);
CREATE INDEX workspace_materializations_due ON public.workspace_materializations USING btree (reservation_expires_at) WHERE (ended_at IS NULL);
CREATE UNIQUE INDEX workspace_materializations_live ON public.workspace_materializations USING btree (workspace_id) WHERE (ended_at IS NULL);
CREATE INDEX workspace_materializations_requested ON public.workspace_materializations USING btree (worker_group_id, created_at) WHERE (state = 'requested'::text);

create table workspace_ptys (
  id uuid not null,
  environment_id uuid not null,
  workspace_id uuid not null,
  materialization_id uuid,
  cwd text not null default ''::text,
  cols integer not null,
  rows integer not null,
  state text not null,
  process_id text,
  error jsonb,
  output_cursor bigint not null default 0,
  output_retained bigint not null default 0,
  output_read bigint not null default 0,
  output_read_at timestamp with time zone,
  input_cursor bigint not null default 0,
  streams_removed_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  closed_at timestamp with time zone,
  updated_at timestamp with time zone not null default now(),
  constraint workspace_ptys_pkey PRIMARY KEY (id),
  constraint workspace_ptys_state_check CHECK ((state = ANY (ARRAY['creating'::text, 'open'::text, 'resizing'::text, 'closing'::text, 'closed'::text, 'lost'::text, 'failed'::text]))),
  constraint workspace_ptys_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
) with (fillfactor=75);
CREATE INDEX workspace_ptys_active ON public.workspace_ptys USING btree (workspace_id) WHERE (state = ANY (ARRAY['creating'::text, 'open'::text, 'resizing'::text, 'closing'::text]));
CREATE INDEX workspace_ptys_by_age ON public.workspace_ptys USING btree (workspace_id, created_at DESC, id DESC);
CREATE INDEX workspace_ptys_to_empty ON public.workspace_ptys USING btree (closed_at) WHERE ((closed_at IS NOT NULL) AND (streams_removed_at IS NULL));

create table workspace_requests (
  id uuid not null,
  materialization_id uuid not null,
  environment_id uuid not null,
  status text not null,
  params jsonb not null,
  result jsonb,
  data bytea,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint workspace_requests_materialization_id_fkey FOREIGN KEY (materialization_id) REFERENCES workspace_materializations(id) ON DELETE CASCADE,
  constraint workspace_requests_pkey PRIMARY KEY (id),
  constraint workspace_requests_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'done'::text, 'failed'::text])))
) with ();
CREATE INDEX workspace_requests_due ON public.workspace_requests USING btree (expires_at);

create table workspace_stream_chunks (
  resource_id uuid not null,
  stream text not null,
  offset_start bigint not null,
  offset_end bigint not null,
  id uuid not null,
  workspace_id uuid not null,
  data bytea not null,
  observed_at timestamp with time zone not null,
  created_at timestamp with time zone not null default now(),
  constraint workspace_stream_chunks_pkey PRIMARY KEY (resource_id, stream, offset_start),
  constraint workspace_stream_chunks_stream_check CHECK ((stream = ANY (ARRAY['stdout'::text, 'stderr'::text, 'stdin'::text, 'output'::text, 'input'::text])))
) with ();
CREATE INDEX workspace_stream_chunks_by_workspace ON public.workspace_stream_chunks USING btree (workspace_id);

create table workspace_version_artifacts (
  version_id uuid not null,
  digest text not null,
  constraint workspace_version_artifacts_pkey PRIMARY KEY (version_id, digest),
  constraint workspace_version_artifacts_version_id_fkey FOREIGN KEY (version_id) REFERENCES workspace_versions(id) ON DELETE CASCADE
) with ();
CREATE INDEX workspace_version_artifacts_by_digest ON public.workspace_version_artifacts USING btree (digest);

create table workspace_versions (
  id uuid not null,
  environment_id uuid not null,
  workspace_id uuid not null,
  parent_version_id uuid,
  kind text not null,
  reason text not null,
  run_id uuid,
  manifest_digest text not null,
  content_digest text not null,
  artifact_encoding text not null,
  artifact_entry_count integer not null,
  size_bytes bigint not null,
  message text,
  promoted_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  constraint workspace_versions_kind_check CHECK ((kind = ANY (ARRAY['user'::text, 'system'::text]))),
  constraint workspace_versions_pkey PRIMARY KEY (id),
  constraint workspace_versions_reason_check CHECK ((reason = ANY (ARRAY['run'::text, 'stop'::text, 'checkpoint'::text, 'request'::text, 'restore'::text, 'fork'::text, 'upload'::text]))),
  constraint workspace_versions_workspace_id_fkey FOREIGN KEY (workspace_id) REFERENCES workspaces(id) ON DELETE CASCADE
) with ();
CREATE INDEX workspace_versions_by_age ON public.workspace_versions USING btree (workspace_id, created_at DESC, id DESC);

create table workspaces (
  id uuid not null,
  environment_id uuid not null,
  project_id uuid not null,
  deployment_sandbox_id uuid not null,
  sandbox_id text not null,
  sandbox_fingerprint text not null,
  external_id text,
  state text not null,
  desired_state text not null,
  dirty_state text not null,
  worker_instance_id uuid,
  metadata jsonb not null default '{}'::jsonb,
  tags text[] not null default '{}'::text[],
  last_activity_at timestamp with time zone not null default now(),
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  current_version_id uuid,
  last_materialization_id uuid,
  auto_stop_at timestamp with time zone,
  auto_delete_at timestamp with time zone,
  archived_at timestamp with time zone,
  deleted_at timestamp with time zone,
  constraint workspaces_desired_state_check CHECK ((desired_state = ANY (ARRAY['active'::text, 'stopped'::text, 'archived'::text, 'deleted'::text]))),
  constraint workspaces_dirty_state_check CHECK ((dirty_state = ANY (ARRAY['clean'::text, 'dirty'::text, 'capturing'::text, 'capture_failed'::text, 'dirty_state_lost'::text]))),
  constraint workspaces_environment_id_external_id_key UNIQUE (environment_id, external_id),
  constraint workspaces_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments(id),
  constraint workspaces_pkey PRIMARY KEY (id),
  constraint workspaces_project_id_fkey FOREIGN KEY (project_id) REFERENCES projects(id),
  constraint workspaces_state_check CHECK ((state = ANY (ARRAY['active'::text, 'deleting'::text, 'recovery_required'::text, 'archived'::text, 'deleted'::text])))
) with ();
CREATE INDEX workspaces_auto_delete ON public.workspaces USING btree (auto_delete_at) WHERE (auto_delete_at IS NOT NULL);
CREATE INDEX workspaces_auto_stop ON public.workspaces USING btree (auto_stop_at) WHERE (auto_stop_at IS NOT NULL);
CREATE INDEX workspaces_by_age ON public.workspaces USING btree (environment_id, created_at DESC, id DESC);
