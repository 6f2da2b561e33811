-- Worker groups that can be chosen: whose work goes where, and what a run needs of a worker.
--
-- The group `default` gets an id that is the same everywhere, so that columns can have it as their default: the version before
-- this one goes on writing rows without naming a group.
-- compatible-with: 0005
lock table worker_groups, worker_bootstrap_tokens, worker_instances in share row exclusive mode;
alter table worker_groups add column labels jsonb not null default '{}';
alter table worker_groups add column updated_at timestamptz not null default now();
insert into worker_groups (id, name, created_at)
  select '00000000-0000-7000-8000-000000000001', '', coalesce((select created_at from worker_groups where name = 'default'), now());
update worker_bootstrap_tokens set worker_group_id = '00000000-0000-7000-8000-000000000001'
  where worker_group_id = (select id from worker_groups where name = 'default');
update worker_instances set worker_group_id = '00000000-0000-7000-8000-000000000001'
  where worker_group_id = (select id from worker_groups where name = 'default');
delete from worker_groups where name = 'default';
update worker_groups set name = 'default' where name = '';

-- token_prefix: the first characters, for people to recognise it.
alter table worker_bootstrap_tokens add column name text not null default 'configured';
alter table worker_bootstrap_tokens add column token_prefix text;
alter table worker_bootstrap_tokens add column last_used_at timestamptz;
create index worker_bootstrap_tokens_by_group on worker_bootstrap_tokens (worker_group_id, created_at desc, id desc);

-- What the worker says of itself.
alter table worker_instances add column labels jsonb not null default '{}';
-- {cpu, memory_mib, disk_mib, slots}: what it says is free, at its last heartbeat. Shown only.
alter table worker_instances add column capacity_free jsonb;
-- An operator's drain stays through restarts, until undrain; `draining` without it is the worker's own.
alter table worker_instances add column drain_requested_at timestamptz;
-- The token it registered with.
alter table worker_instances add column bootstrap_token_id uuid references worker_bootstrap_tokens;
alter table worker_instances add column credential_issued_at timestamptz not null default now();
-- What a rotation replaced, good until then.
alter table worker_instances add column previous_credential_hash bytea;
alter table worker_instances add column previous_valid_until timestamptz;
-- Grows with every claim: of two claims that count on the same free capacity one takes nothing.
alter table worker_instances add column claim_seq bigint not null default 0;
create unique index worker_instances_by_previous_credential on worker_instances (previous_credential_hash)
  where previous_credential_hash is not null;
create index worker_instances_by_group on worker_instances (worker_group_id, state);

-- Where what is deployed next goes; each deployment keeps the group it was created with.
alter table environments add column worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'
  references worker_groups;
create index environments_by_worker_group on environments (worker_group_id);
alter table deployments add column worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001'
  references worker_groups;
-- Of the worker that built its images; null: unknown, they go anywhere.
alter table deployments add column architecture text;
create index deployments_by_worker_group on deployments (worker_group_id);
create index deployments_to_build on deployments (worker_group_id, created_at) where status = 'queued';

-- Copied from deployment and sandbox, fixed with the run: what a claim compares. No reference, as with the deployment, which
-- keeps the group.
alter table runs add column worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001';
alter table runs add column needs_cpu integer not null default 0;
alter table runs add column needs_memory_mib bigint not null default 0;
alter table runs add column needs_disk_mib bigint not null default 0;
alter table runs add column needs_architecture text;
-- The reason that its last run.waiting_for_capacity gave.
alter table runs add column waiting_reason text;
create index runs_held on runs (worker_instance_id) where lease_id is not null;

alter table workspace_materializations add column worker_group_id uuid not null default '00000000-0000-7000-8000-000000000001';
alter table workspace_materializations add column needs_cpu integer not null default 0;
alter table workspace_materializations add column needs_memory_mib bigint not null default 0;
alter table workspace_materializations add column needs_disk_mib bigint not null default 0;
alter table workspace_materializations add column needs_architecture text;
drop index workspace_materializations_requested;
create index workspace_materializations_requested on workspace_materializations (worker_group_id, created_at) where state = 'requested';
