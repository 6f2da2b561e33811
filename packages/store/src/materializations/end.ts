/** endMaterialization: how a live copy ends, with everything in it (M4). Workspace and row are locked by the caller. */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { jsonbText } from "../json.ts";
import type { EndedMaterialization, MaterializationRow } from "./lifecycle.ts";

export interface MaterializationEnd {
  readonly state: "stopped" | "failed" | "lost";
  readonly error?: { readonly code?: string | undefined; readonly message: string };
  /** Changes since the last save are gone. Default: when the copy is lost and something ran in it since. */
  readonly unsaved?: boolean;
}

/** Of execs and ptys: ended by somebody's wish, or with the copy. */
const commandStates = {
  stopped: { exec: "terminated", pty: "closed" },
  failed: { exec: "failed", pty: "failed" },
  lost: { exec: "lost", pty: "lost" },
} as const;

const lostMessage =
  "the worker of the live copy was lost: what ran there is gone, and the files are those of the last saved version";

/** End it; the caller tells whom the answer names, after the commit. */
export async function endMaterialization(
  tx: Tx,
  row: Pick<MaterializationRow, "id" | "workspace_id" | "run_id" | "worker_instance_id" | "worker_group_id">,
  end: MaterializationEnd,
): Promise<EndedMaterialization> {
  const error = end.error ?? (end.state === "lost" ? { message: lostMessage } : undefined);
  const errorText = error === undefined ? null : jsonbText(error);
  const unsaved = end.unsaved ?? (end.state === "lost" && (await isChangedSinceSave(tx, row)));
  const commands = await endCommands(tx, row.id, end.state, errorText);
  await sql`
    with emptied as (delete from workspace_commands where materialization_id = ${row.id})
    update workspace_materializations set state = ${end.state}, ended_at = now(), updated_at = now(),
      error = ${errorText}::jsonb where id = ${row.id}`.execute(tx);
  await sql`update workspaces set auto_stop_at = null, updated_at = now(),
      dirty_state = case when ${unsaved}::boolean then 'dirty_state_lost' else dirty_state end
    where id = ${row.workspace_id}`.execute(tx);
  return {
    materializationId: row.id,
    workspaceId: row.workspace_id,
    runId: row.run_id,
    workerInstanceId: row.worker_instance_id,
    workerGroupId: row.worker_group_id,
    state: end.state,
    ...commands,
  };
}

/** Something ran in the copy after the workspace's current version was saved. */
async function isChangedSinceSave(
  tx: Tx,
  row: Pick<MaterializationRow, "id" | "workspace_id">,
): Promise<boolean> {
  const { rows } = await sql<{ changed: boolean }>`
    with saved as (
      select coalesce((select coalesce(v.promoted_at, v.created_at) from workspaces w
        join workspace_versions v on v.id = w.current_version_id where w.id = ${row.workspace_id}), '-infinity') as at)
    select exists (select from workspace_execs e, saved where e.materialization_id = ${row.id} and e.started_at is not null
        and (e.exited_at is null or e.exited_at > saved.at))
      or exists (select from workspace_ptys p, saved where p.materialization_id = ${row.id} and p.started_at is not null
        and (p.closed_at is null or p.closed_at > saved.at)) as changed`.execute(tx);
  return rows[0]?.changed ?? false;
}

/** End what runs in the copy, and the questions to it. Also of a copy that is to stop before it was up. */
export async function endCommands(
  tx: Tx,
  materializationId: string,
  state: MaterializationEnd["state"],
  errorText: string | null,
): Promise<Pick<EndedMaterialization, "execIds" | "ptyIds" | "requestIds">> {
  const { exec, pty } = commandStates[state];
  const { rows } = await sql<{ kind: "exec" | "pty" | "request"; id: string }>`
    with execs as (
      update workspace_execs set state = ${exec}, exited_at = now(), updated_at = now(),
        error = coalesce(error, ${errorText}::jsonb)
      where materialization_id = ${materializationId} and state in ('queued', 'materializing', 'running') returning id
    ), ptys as (
      update workspace_ptys set state = ${pty}, closed_at = now(), updated_at = now(),
        error = coalesce(error, ${errorText}::jsonb)
      where materialization_id = ${materializationId} and state in ('creating', 'open', 'resizing', 'closing') returning id
    ), requests as (
      update workspace_requests set status = 'failed', result = ${jsonbText({
        code: "workspace_not_live",
        message: "the live copy is gone",
      })}::jsonb
      where materialization_id = ${materializationId} and status = 'pending' returning id
    )
    select 'exec' as kind, id from execs union all select 'pty', id from ptys
    union all select 'request', id from requests`.execute(tx);
  const ids = (kind: string) => rows.filter((row) => row.kind === kind).map((row) => row.id);
  return { execIds: ids("exec"), ptyIds: ids("pty"), requestIds: ids("request") };
}
