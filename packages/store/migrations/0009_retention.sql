-- How long what has ended is kept: ../src/retention.
-- compatible-with: 0005

-- When the events and logs of a run that has ended went; its terminal event stays.
alter table runs add column events_removed_at timestamptz;
create index runs_events_kept on runs (ended_at) where ended_at is not null and events_removed_at is null;

-- The same of deployments.
alter table deployments add column events_removed_at timestamptz;
create index deployments_events_kept on deployments (created_at)
  where status in ('deployed', 'failed') and events_removed_at is null;

-- The schedule that started the session. No reference: sessions stay when their schedule goes.
alter table sessions add column schedule_id uuid;
update sessions s set schedule_id = r.schedule_id from runs r
  where r.session_id = s.id and r.schedule_id is not null and r.turn_index = 0;
create index sessions_of_schedules on sessions (created_at) where status = 'open' and schedule_id is not null;
create index sessions_ended on sessions (updated_at) where status <> 'open';

-- A run that goes takes its operations along.
create index run_operations_by_run on run_operations (run_id);
