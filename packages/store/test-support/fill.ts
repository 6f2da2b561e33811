/** Many finished runs at once, written by SQL: for tests and benchmarks of what reading costs beside them. */
import { sql } from "kysely";
import type { Queryable } from "../src/database.ts";
import type { Scope } from "../src/scope.ts";
import type { SeededTask } from "./seed.ts";

/**
 * `count` succeeded runs a second apart, each with its session, its workspace and two events, counted as the lifecycle
 * counts. Resolves to their ids, oldest first. 100,000 take about 10 s.
 */
export async function fillRuns(
  db: Queryable,
  scope: Scope,
  task: SeededTask,
  count: number,
): Promise<string[]> {
  const ids: string[] = [];
  const page = 5000;
  for (let from = 0; from < count; from += page) {
    ids.push(...(await fillPage(db, scope, task, { age: count - from, size: Math.min(page, count - from) })));
  }
  await sql`insert into run_counts as c (environment_id, shard, succeeded) values (${scope.environmentId}, 0, ${count})
    on conflict (environment_id, shard) do update set succeeded = c.succeeded + excluded.succeeded`.execute(
    db,
  );
  await sql`analyze runs, run_events, sessions, workspaces`.execute(db);
  return ids;
}

async function fillPage(
  db: Queryable,
  scope: Scope,
  task: SeededTask,
  { age, size }: { age: number; size: number },
): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with made as materialized (
      select gen_random_uuid() as id, gen_random_uuid() as session_id, gen_random_uuid() as workspace_id,
        now() - (${age}::integer - n) * interval '1 second' as created_at
      from generate_series(0, ${size - 1}::integer) n
    ), workspaces_made as (
      insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
        state, desired_state, dirty_state)
      select workspace_id, ${scope.environmentId}, ${scope.projectId}, ${task.deploymentSandboxId}, 'box', 'f', 'active',
        'active', 'clean' from made
    ), sessions_made as (
      insert into sessions (id, environment_id, project_id, task_id, initial_deployment_id, active_deployment_id,
        start_fingerprint, status, current_run_id, workspace_id, created_at, updated_at)
      select session_id, ${scope.environmentId}, ${scope.projectId}, ${task.taskId}, ${task.deploymentId},
        ${task.deploymentId}, '', 'open', id, workspace_id, created_at, created_at from made
    ), runs_made as (
      insert into runs (id, environment_id, project_id, session_id, deployment_id, deployment_task_id,
        deployment_version, workspace_id, task_id, status, execution_status, queue_name, payload, output, retry_policy,
        max_duration_seconds, event_seq, exit_code, api_version, created_at, updated_at, ended_at, attempt_number)
      select id, ${scope.environmentId}, ${scope.projectId}, session_id, ${task.deploymentId}, ${task.deploymentTaskId},
        '20260606.1', workspace_id, ${task.taskId}, 'succeeded', 'finished', ${task.queueName}, '{}', '{"ok":true}',
        '{"enabled":false}', 900, 2, 0, '2026-06-06', created_at, created_at, created_at, 1 from made
    ), events_made as (
      insert into run_events (run_id, seq, category, severity, source, kind, message, attributes, occurred_at)
      select m.id, e.seq, 'lifecycle', 'info', 'control_plane', e.kind, e.kind, '{}', m.created_at
      from made m cross join (values (1, 'run.created'), (2, 'run.completed')) e (seq, kind)
    )
    select id from made order by created_at`.execute(db);
  return rows.map((row) => row.id);
}

export interface FillQueued {
  readonly count: number;
  /** SQL of the number `n` (from 0 on) of a run; default: none. */
  readonly concurrencyKey?: string;
  /** The same; default: 0. */
  readonly priority?: string;
  /** The queue has a limit. */
  readonly limited?: boolean;
}

/** `count` queued runs, the first one the oldest, each with its session and workspace; without events and counts. To be analyzed after. */
export async function fillQueuedRuns(
  db: Queryable,
  scope: Scope,
  task: SeededTask,
  { count, concurrencyKey = "null", priority = "0", limited = false }: FillQueued,
): Promise<void> {
  const page = 10_000;
  for (let from = 0; from < count; from += page) {
    await sql`
      with made as materialized (
        select n, gen_random_uuid() as id, gen_random_uuid() as session_id, gen_random_uuid() as workspace_id,
          now() - interval '1 day' + n * interval '1 millisecond' as created_at
        from generate_series(${from}::integer, ${Math.min(from + page, count) - 1}::integer) n
      ), workspaces_made as (
        insert into workspaces (id, environment_id, project_id, deployment_sandbox_id, sandbox_id, sandbox_fingerprint,
          state, desired_state, dirty_state)
        select workspace_id, ${scope.environmentId}, ${scope.projectId}, ${task.deploymentSandboxId}, 'box', 'f', 'active',
          'active', 'clean' from made
      ), sessions_made as (
        insert into sessions (id, environment_id, project_id, task_id, initial_deployment_id, active_deployment_id,
          start_fingerprint, status, current_run_id, workspace_id, created_at, updated_at)
        select session_id, ${scope.environmentId}, ${scope.projectId}, ${task.taskId}, ${task.deploymentId},
          ${task.deploymentId}, '', 'open', id, workspace_id, created_at, created_at from made
      )
      insert into runs (id, environment_id, project_id, session_id, deployment_id, deployment_task_id,
        deployment_version, workspace_id, task_id, status, execution_status, queue_name, concurrency_key, priority, limited, payload,
        retry_policy, max_duration_seconds, api_version, created_at, updated_at, available_at)
      select id, ${scope.environmentId}, ${scope.projectId}, session_id, ${task.deploymentId}, ${task.deploymentTaskId},
        '20260606.1', workspace_id, ${task.taskId}, 'queued', 'queued', ${task.queueName}, ${sql.raw(concurrencyKey)}, ${sql.raw(priority)},
        ${limited}, '{}', '{"enabled":false}', 900, '2026-06-06', created_at, created_at, created_at from made`.execute(
      db,
    );
  }
}
