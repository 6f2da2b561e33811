/**
 * appendToMaterialization: what a worker says of the execs and ptys of a live copy, in numbered items (C4). Two statements
 * between begin and commit: the copy's row and what the items name are locked and read, then everything is written; a third
 * only where old output goes.
 */
import type { WorkspaceAppendItem } from "@helmr/api";
import { sql } from "kysely";
import { type Queryable, type Tx, transaction } from "../database.ts";
import { jsonbText } from "../json.ts";
import { heldByRun, type MaterializationRef } from "../materializations/lifecycle.ts";
import { type Changes, type CommandState, collect, pausedStreams, type StreamRef } from "./append-items.ts";
import { trimStreams } from "./retention.ts";

export interface AppendToMaterialization extends MaterializationRef {
  /** In order of their numbers. */
  readonly items: readonly WorkspaceAppendItem[];
  /** Kept of each stream. Default 64 MiB; tests shorten it. */
  readonly keptBytes?: number;
}

export interface AppendedToMaterialization {
  readonly workspaceId: string;
  readonly acknowledged: number;
  /** Streams whose attached reader is far behind. */
  readonly paused: readonly StreamRef[];
  /** Execs and ptys with something new: `exec:<id>` and `pty:<id>` are told. */
  readonly execIds: readonly string[];
  readonly ptyIds: readonly string[];
  /** One of them has ended: the workspace may be idle now (`noteIdle`). */
  readonly hasEnded: boolean;
}

interface LockedCopy {
  readonly workspace_id: string;
  readonly append_number: number;
  readonly commands: CommandState[] | null;
}

/** Undefined: the copy is lost (M2). Throws workspace_stream_offset_conflict when output leaves a gap. */
export async function appendToMaterialization(
  db: Queryable,
  input: AppendToMaterialization,
): Promise<AppendedToMaterialization | undefined> {
  return await transaction(db, async (tx) => {
    const copy = await lockCopy(tx, input);
    if (copy === undefined) return undefined;
    const commands = new Map((copy.commands ?? []).map((command) => [command.id, command]));
    const items = input.items.filter((item) => item.number > copy.append_number);
    const acknowledged = items.reduce((last, item) => Math.max(last, item.number), copy.append_number);
    const changes = collect(commands, items);
    if (items.length > 0) await write(tx, input.materializationId, copy.workspace_id, changes, acknowledged);
    await trimStreams(tx, changes, input.keptBytes);
    const changed = [...changes.commands.values()];
    return {
      workspaceId: copy.workspace_id,
      acknowledged,
      paused: pausedStreams(commands.values()),
      execIds: changed.filter(({ kind }) => kind === "exec").map(({ id }) => id),
      ptyIds: changed.filter(({ kind }) => kind === "pty").map(({ id }) => id),
      hasEnded: changed.some((command) => command.has_ended),
    };
  });
}

/** M2; with the execs and ptys of the copy that are active, each locked. */
async function lockCopy(tx: Tx, input: AppendToMaterialization): Promise<LockedCopy | undefined> {
  const { rows } = await sql<LockedCopy>`
    with m as materialized (
      select m.id, m.workspace_id, m.append_number from workspace_materializations m
      where m.id = ${input.materializationId} and m.worker_instance_id = ${input.workerInstanceId}
        and m.fencing_generation = ${input.fencing} and m.ended_at is null and ${heldByRun} for no key update of m
    ), execs as materialized (
      select e.* from m join workspace_execs e on e.workspace_id = m.workspace_id and e.materialization_id = m.id
      where e.state in ('queued', 'materializing', 'running') order by e.id for no key update of e
    ), ptys as materialized (
      select p.* from m join workspace_ptys p on p.workspace_id = m.workspace_id and p.materialization_id = m.id
      where p.state in ('creating', 'open', 'resizing', 'closing') order by p.id for no key update of p
    )
    select m.workspace_id, m.append_number, (select jsonb_agg(c) from (
      select jsonb_build_object('kind', 'exec', 'id', e.id, 'state', e.state, 'detached', e.detached, 'streams', jsonb_build_object(
        'stdout', jsonb_build_object('cursor', e.stdout_cursor, 'retained', e.stdout_retained, 'read', e.stdout_read,
          'read_ago', extract(epoch from clock_timestamp() - e.stdout_read_at)),
        'stderr', jsonb_build_object('cursor', e.stderr_cursor, 'retained', e.stderr_retained, 'read', e.stderr_read,
          'read_ago', extract(epoch from clock_timestamp() - e.stderr_read_at)))) as c from execs e
      union all
      select jsonb_build_object('kind', 'pty', 'id', p.id, 'state', p.state, 'detached', false, 'streams', jsonb_build_object(
        'output', jsonb_build_object('cursor', p.output_cursor, 'retained', p.output_retained, 'read', p.output_read,
          'read_ago', extract(epoch from clock_timestamp() - p.output_read_at)))) from ptys p) c) as commands
    from m`.execute(tx);
  return rows[0];
}

async function write(
  tx: Tx,
  materializationId: string,
  workspaceId: string,
  { commands, chunks }: Changes,
  acknowledged: number,
): Promise<void> {
  const rows = jsonbText(
    [...commands.values()].map(({ streams, ...command }) => ({
      ...command,
      stdout_cursor: streams.stdout?.cursor ?? null,
      stderr_cursor: streams.stderr?.cursor ?? null,
      output_cursor: streams.output?.cursor ?? null,
    })),
  );
  await sql`
    with acknowledged as (
      update workspace_materializations set append_number = ${acknowledged}::bigint where id = ${materializationId}
    ), changed as materialized (
      select * from jsonb_to_recordset(${rows}::jsonb) as x (kind text, id uuid, state text, pid integer, has_started boolean,
        has_ended boolean, exit_code integer, signal text, error jsonb, stdout_cursor bigint, stderr_cursor bigint,
        output_cursor bigint)
    ), execs as (
      update workspace_execs e set state = c.state, process_id = coalesce(c.pid::text, e.process_id),
        started_at = case when c.has_started then coalesce(e.started_at, now()) else e.started_at end,
        exited_at = case when c.has_ended then now() end, exit_code = c.exit_code, signal = c.signal, error = c.error,
        stdout_cursor = c.stdout_cursor, stderr_cursor = c.stderr_cursor, updated_at = now()
      from changed c where c.kind = 'exec' and e.id = c.id
    ), ptys as (
      update workspace_ptys p set state = c.state, process_id = coalesce(c.pid::text, p.process_id),
        started_at = case when c.has_started then coalesce(p.started_at, now()) else p.started_at end,
        closed_at = case when c.has_ended then now() end, error = c.error, output_cursor = c.output_cursor,
        updated_at = now()
      from changed c where c.kind = 'pty' and p.id = c.id
    )
    insert into workspace_stream_chunks (resource_id, stream, offset_start, offset_end, id, workspace_id, data, observed_at)
    select c.resource_id, c.stream, c.offset_start, c.offset_start + octet_length(c.data), c.id, ${workspaceId}::uuid, c.data,
      c.observed_at
    from unnest(${chunks.map((chunk) => chunk.resourceId)}::uuid[], ${chunks.map((chunk) => chunk.stream)}::text[],
      ${chunks.map((chunk) => chunk.offset)}::bigint[], ${chunks.map((chunk) => chunk.id)}::uuid[],
      ${chunks.map((chunk) => chunk.data)}::bytea[], ${chunks.map((chunk) => chunk.observedAt)}::timestamptz[])
      as c (resource_id, stream, offset_start, id, data, observed_at)`.execute(tx);
}
