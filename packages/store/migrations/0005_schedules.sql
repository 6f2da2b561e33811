-- Schedules: what time starts. Transitions: ../src/schedules (the table at the head of lifecycle.ts is the lifecycle).

-- {cron, timezone} of what schedules.task declares.
alter table deployment_tasks add column schedule jsonb;

create table schedules (
  id uuid primary key,
  environment_id uuid not null references environments,
  project_id uuid not null,
  type text not null check (type in ('imperative', 'declarative')),
  task_id text not null,
  deduplication_key text,
  external_id text,
  cron text not null,
  timezone text not null,
  active boolean not null default true,
  -- queue_name, concurrency_key, priority, ttl, max_duration_seconds of the sessions; each may be missing.
  options jsonb not null default '{}',
  -- The slot that fires next, and the last that did: times of the pattern.
  next_fire_at timestamptz,
  last_fire_at timestamptz,
  -- When next_fire_at is tried: later by the jitter, and by the backoff of what failed.
  due_at timestamptz,
  -- Of this slot, counted at the claim.
  attempt integer not null default 0,
  -- Grows with every claim, every end of one and every change: an older one is refused.
  fencing bigint not null default 0,
  lease_expires_at timestamptz,
  last_error text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check ((type = 'imperative') = (deduplication_key is not null)),
  check ((next_fire_at is null) = (due_at is null)),
  check (active or due_at is null),
  check (lease_expires_at is null or due_at is not null)
) with (fillfactor = 75);
create unique index schedules_deduplication on schedules (environment_id, deduplication_key) where type = 'imperative';
create unique index schedules_declared on schedules (environment_id, task_id) where type = 'declarative';
create index schedules_by_age on schedules (environment_id, created_at desc, id desc);
create index schedules_due on schedules (due_at, id) where due_at is not null;

-- The schedule that started the run. No reference: runs stay when their schedule goes.
alter table runs add column schedule_id uuid;
create index runs_by_schedule on runs (schedule_id, created_at desc, id desc) where schedule_id is not null;
