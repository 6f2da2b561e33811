/** requestStop: the worker saves the live copy and lets it go; one that is not up yet ends, or is told as soon as it is. */
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import type { Queryable, Tx } from "../database.ts";
import type { ActingScope } from "../scope.ts";
import { noteIdempotency, recallIdempotency } from "../workspace-commands/idempotency.ts";
import { insertCommand } from "../workspace-commands/outbox.ts";
import { endCommands, endMaterialization } from "./end.ts";
import type { EndedMaterialization, MaterializationRow } from "./lifecycle.ts";
import { inWorkspace, type LockedWorkspace } from "./lock.ts";

export interface StopRequest {
  readonly idempotencyKey?: string | undefined;
  readonly idempotencyKeyTtlMs: number;
}

export interface StopResult {
  /** Undefined: there was nothing to stop. */
  readonly materialization: MaterializationRow | undefined;
  /** What ended with it at once. */
  readonly ended?: EndedMaterialization | undefined;
}

/** Undefined without such a workspace. A key that was used gives the copy that it stopped, as it is now. */
export async function requestStop(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  request: StopRequest,
): Promise<StopResult | undefined> {
  const key = {
    scopeName: `workspace.stop:${workspaceId}`,
    key: request.idempotencyKey,
    ttlMs: request.idempotencyKeyTtlMs,
    parts: {},
  };
  return await inWorkspace(db, scope, workspaceId, async (tx, locked) => {
    const known = await recallIdempotency(tx, scope, key);
    if (known !== undefined) return { materialization: await readOwn(tx, workspaceId, known) };
    const result = await stopLocked(tx, locked);
    await noteIdempotency(tx, scope, key, result.materialization?.id ?? workspaceId);
    await sql`update workspaces set desired_state = 'stopped', updated_at = now() where id = ${workspaceId}
      and desired_state in ('active', 'stopped')`.execute(tx);
    await recordScopeAudit(tx, scope, {
      action: "workspace.stop",
      resourceId: workspaceId,
      attributes:
        result.materialization === undefined ? {} : { materialization_id: result.materialization.id },
    });
    return result;
  });
}

/** Also for copies that nobody uses: see expire.ts. */
export async function stopLocked(tx: Tx, { live, run }: LockedWorkspace): Promise<StopResult> {
  if (live === undefined) return { materialization: undefined };
  if (live.stop_requested_at !== null) return { materialization: live };
  const isOffered =
    live.run_id === null ||
    (run?.id === live.run_id && live.lease_id !== null && run.lease_id === live.lease_id);
  if (live.state === "requested" || !isOffered) {
    const ended = await endMaterialization(tx, live, { state: "stopped" });
    return { materialization: await readOwn(tx, live.workspace_id, live.id), ended };
  }
  const wasUp = live.state === "running";
  const commands = wasUp ? undefined : await endCommands(tx, live.id, "stopped", null);
  if (!wasUp) await sql`delete from workspace_commands where materialization_id = ${live.id}`.execute(tx);
  await insertCommand(tx, live.id, { kind: "stop" });
  const { rows } = await sql<MaterializationRow>`
    update workspace_materializations m set state = 'stopping', stop_requested_at = now(), updated_at = now()
    where id = ${live.id} returning m.*`.execute(tx);
  return {
    materialization: rows[0],
    ended: commands && {
      materializationId: live.id,
      workspaceId: live.workspace_id,
      runId: live.run_id,
      workerInstanceId: live.worker_instance_id,
      workerGroupId: live.worker_group_id,
      state: "stopped",
      ...commands,
    },
  };
}

async function readOwn(tx: Tx, workspaceId: string, id: string): Promise<MaterializationRow | undefined> {
  const { rows } = await sql<MaterializationRow>`
    select m.* from workspace_materializations m where m.id = ${id} and m.workspace_id = ${workspaceId}`.execute(
    tx,
  );
  return rows[0];
}
