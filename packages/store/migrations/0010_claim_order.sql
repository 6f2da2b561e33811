-- The order in which claims walk the queued runs (../src/runs/find-lanes.ts): one index for all of them, in place of
-- runs_claimable and runs_lanes, which the version before this one claims by: they go when it is gone. What a run needs is the end of it, so that those that do not fit a
-- worker are passed over without reading them.
-- compatible-with: 0005
create index runs_queued on runs (worker_group_id, environment_id,
    (-(priority::bigint) - case when execution_status = 'resume_queued' then 8589934592 else 0 end),
    queue_name, lane_key, available_at, id, needs_cpu, needs_memory_mib, needs_disk_mib)
  where status = 'queued';

-- Queued runs by what they need (../src/workers/note-waiting.ts).
create index runs_waiting on runs (worker_group_id, needs_cpu, needs_memory_mib, needs_disk_mib,
    coalesce(needs_architecture, ''), waiting_reason, available_at)
  where status = 'queued';
