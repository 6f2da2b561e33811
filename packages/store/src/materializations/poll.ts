/** pollWorkspaces: what a worker is to do in its live copies. */
import type { WorkspaceCommand } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, retryConflicts } from "../database.ts";
import { heldByRun } from "./lifecycle.ts";

export interface HeldMaterialization {
  readonly materializationId: string;
  readonly fencing: number;
  /** Commands up to here are done or in hand. */
  readonly afterSeq: number;
}

export interface PolledCommand {
  readonly materializationId: string;
  readonly seq: number;
  readonly command: WorkspaceCommand;
  readonly data: Buffer | null;
}

export interface AttachedCopy {
  readonly materializationId: string;
  readonly workspaceId: string;
  readonly runId: string;
  readonly leaseId: string;
  readonly fencing: number;
}

export interface WorkspacePollResult {
  readonly attached: readonly AttachedCopy[];
  readonly commands: readonly PolledCommand[];
  readonly lost: readonly string[];
}

/** Of one answer; the next poll brings the rest. */
const maxCommands = 500;
const maxCommandBytes = 4 * 1024 * 1024;

/** M5: forget what is acknowledged. Once per poll of the worker. */
export async function acknowledgeCommands(
  db: Queryable,
  workerInstanceId: string,
  held: readonly HeldMaterialization[],
): Promise<void> {
  const done = held.filter((each) => each.afterSeq > 0);
  if (done.length === 0) return;
  await retryConflicts(() =>
    sql`delete from workspace_commands c using ${namesOf(done)}, workspace_materializations m
      where m.id = n.id and m.worker_instance_id = ${workerInstanceId} and m.fencing_generation = n.fencing
        and c.materialization_id = m.id and c.seq <= n.after_seq`.execute(db),
  );
}

/**
 * Copies of runs to resume, of which this worker has the run now, get its lease: restoring -> materializing (M2). Also when
 * the restore failed elsewhere and the run has another lease.
 */
export async function bindRunCopies(db: Queryable, workerInstanceId: string): Promise<void> {
  await retryConflicts(() =>
    sql`with bound as materialized (
        select m.id, r.lease_id, r.fencing from workspace_materializations m join runs r on r.id = m.run_id
        where m.ended_at is null and m.run_id is not null and m.state = 'restoring'
          and r.worker_instance_id = ${workerInstanceId} and r.lease_id is not null
          and m.lease_id is distinct from r.lease_id
        order by m.id for update of m skip locked)
      update workspace_materializations m set lease_id = b.lease_id, fencing_generation = b.fencing, append_number = 0,
        worker_instance_id = ${workerInstanceId}, updated_at = now()
      from bound b where m.id = b.id`.execute(db),
  );
}

interface Row {
  readonly kind: "attached" | "command" | "lost";
  readonly id: string;
  readonly workspace_id: string | null;
  readonly run_id: string | null;
  readonly lease_id: string | null;
  readonly fencing: number | null;
  readonly seq: number | null;
  readonly body: WorkspaceCommand | null;
  readonly data: Buffer | null;
}

/** What there is now, in one statement. Commands of a copy that is not up yet are kept, but for its stop. */
export async function pollWorkspaces(
  db: Queryable,
  workerInstanceId: string,
  held: readonly HeldMaterialization[],
): Promise<WorkspacePollResult> {
  const { rows } = await sql<Row>`
    with named as materialized (
      select n.id, n.after_seq, m.state, m.id is not null as is_held
      from ${namesOf(held)} left join workspace_materializations m on m.id = n.id
        and m.worker_instance_id = ${workerInstanceId} and m.fencing_generation = n.fencing and m.ended_at is null
        and ${heldByRun}
    ), todo as (
      select c.materialization_id, c.seq, c.body, c.data,
        sum(coalesce(octet_length(c.data), 0)) over (order by c.materialization_id, c.seq) as bytes
      from named n cross join lateral (
        select * from workspace_commands c where c.materialization_id = n.id and c.seq > n.after_seq
        order by c.seq limit ${sql.lit(maxCommands)}) c
      where n.is_held and n.state in ('running', 'stopping')
      order by c.materialization_id, c.seq limit ${sql.lit(maxCommands)}
    )
    select 'lost' as kind, n.id, null::uuid as workspace_id, null::uuid as run_id, null::uuid as lease_id,
      null::bigint as fencing, null::bigint as seq, null::jsonb as body, null::bytea as data
    from named n where not n.is_held
    union all
    select 'attached', m.id, m.workspace_id, m.run_id, m.lease_id, m.fencing_generation, null, null, null
    from workspace_materializations m join runs r on r.id = m.run_id and r.lease_id = m.lease_id
    where m.worker_instance_id = ${workerInstanceId} and m.ended_at is null and m.run_id is not null
      and not exists (select from named n where n.id = m.id and n.is_held)
    union all
    select 'command', t.materialization_id, null, null, null, null, t.seq, t.body, t.data
    from todo t where t.bytes - coalesce(octet_length(t.data), 0) < ${sql.lit(maxCommandBytes)}`.execute(db);
  const of = (kind: Row["kind"]) => rows.filter((row) => row.kind === kind);
  return {
    attached: of("attached").map((row) => ({
      materializationId: row.id,
      workspaceId: row.workspace_id ?? "",
      runId: row.run_id ?? "",
      leaseId: row.lease_id ?? "",
      fencing: row.fencing ?? 0,
    })),
    commands: of("command").flatMap(({ id, seq, body, data }) =>
      seq === null || body === null ? [] : [{ materializationId: id, seq, command: body, data }],
    ),
    lost: of("lost").map((row) => row.id),
  };
}

function namesOf(held: readonly HeldMaterialization[]) {
  return sql`unnest(${held.map((each) => each.materializationId)}::uuid[], ${held.map((each) => each.fencing)}::bigint[],
    ${held.map((each) => each.afterSeq)}::bigint[]) as n (id, fencing, after_seq)`;
}
