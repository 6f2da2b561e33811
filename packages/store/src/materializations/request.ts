/** requestMaterialization: the live copy that there is, or a new one: the guest of the workspace's run, or one of its own. */
import { ApiError, codedError, type ErrorCode } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "../audit.ts";
import type { Queryable, Tx } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import type { ActingScope } from "../scope.ts";
import { resumeForOperator } from "../waits/resume.ts";
import { defaultWorkerGroupId } from "../worker-groups/lifecycle.ts";
import { endMaterialization } from "./end.ts";
import type { EndedMaterialization, MaterializationRow } from "./lifecycle.ts";
import { type HoldingRun, inWorkspace, type LockedWorkspace } from "./lock.ts";

export interface RequestedMaterialization {
  readonly materialization: MaterializationRow;
  readonly created: boolean;
  /** A live row that was none any more. */
  readonly ended?: EndedMaterialization | undefined;
  /** A parked run that was queued to resume for it. */
  readonly resumedRunId?: string | undefined;
}

/** `stopping`: the copy is being saved and stopped; ask again when it is gone (`workspace:<id>` is told). */
export type MaterializationRequest = RequestedMaterialization | "stopping";

/** Undefined without such a workspace. Throws workspace_not_active and the codes of contract 7.8. */
export async function requestMaterialization(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
): Promise<MaterializationRequest | undefined> {
  return await inWorkspace(db, scope, workspaceId, async (tx, locked) => {
    const requested = await ensureLive(tx, locked);
    if (requested === "stopping" || !requested.created) return requested;
    await recordScopeAudit(tx, scope, {
      action: "workspace.materialize",
      resourceId: workspaceId,
      attributes: { materialization_id: requested.materialization.id },
    });
    return requested;
  });
}

/** The same with the workspace locked: for commands, which need a copy to run in. */
export async function ensureLive(tx: Tx, locked: LockedWorkspace): Promise<MaterializationRequest> {
  const { workspace, run, live } = locked;
  if (workspace.state !== "active") throw codedError("workspace_not_active");
  if (live === undefined) return await makeLive(tx, locked);
  if (live.state === "requested" && run !== undefined) {
    return { ...(await attachToRun(tx, live, run)), created: false };
  }
  if (isLive(live, run))
    return live.state === "stopping" ? "stopping" : { materialization: live, created: false };
  const state = run?.id === live.run_id && run?.execution_status !== "parked" ? "lost" : "stopped";
  const ended = await endMaterialization(tx, live, { state });
  return { ...(await makeLive(tx, locked)), ended };
}

/** A copy of its own, or one whose run has the lease that the copy has, or will have (restoring). */
function isLive(live: MaterializationRow, run: HoldingRun | undefined): boolean {
  if (live.run_id === null) return true;
  if (run?.id !== live.run_id) return false;
  if (run.lease_id !== null && run.lease_id === live.lease_id) return true;
  return live.state === "restoring" && run.execution_status !== "parked";
}

async function makeLive(
  tx: Tx,
  { workspace, run }: LockedWorkspace,
): Promise<Omit<RequestedMaterialization, "ended">> {
  if (run === undefined) await requirePrerequisites(tx, workspace);
  const resumedRunId = run === undefined ? undefined : await resumeIfParked(tx, run);
  const { rows } = await sql<MaterializationRow>`
    insert into workspace_materializations as m (id, environment_id, project_id, workspace_id, deployment_sandbox_id,
      base_version_id, run_id, worker_instance_id, lease_id, fencing_generation, state, worker_group_id, needs_cpu,
      needs_memory_mib, needs_disk_mib, needs_architecture)
    select ${uuidv7()}::uuid, ${workspace.environment_id}::uuid, ${workspace.project_id}::uuid, ${workspace.id}::uuid,
      ${workspace.deployment_sandbox_id}::uuid, ${workspace.current_version_id}::uuid, ${run?.id ?? null}::uuid,
      ${run?.lease_id == null ? null : run.worker_instance_id}::uuid, ${run?.lease_id ?? null}::uuid,
      ${run?.lease_id == null ? 0 : run.fencing}::bigint, ${stateFor(run)},
      coalesce(${run?.worker_group_id ?? null}::uuid, d.worker_group_id, ${sql.lit(defaultWorkerGroupId)}::uuid), coalesce((n.resources->>'cpu')::integer, 0),
      coalesce((n.resources->>'memory_mib')::bigint, 0), coalesce((n.resources->>'disk_mib')::bigint, 0), d.architecture
    from (select 1) one left join deployment_sandboxes s on s.id = ${workspace.deployment_sandbox_id}
    left join deployments d on d.id = s.deployment_id
    left join lateral (select s.definition #> '{definition,resources}' as resources) n on true
    returning m.*`.execute(tx);
  const materialization = rows[0];
  if (materialization === undefined) throw new Error("the insert of a materialization returned no row");
  await sql`update workspaces set last_materialization_id = ${materialization.id}, desired_state = 'active',
    last_activity_at = now(), updated_at = now(), auto_stop_at = null where id = ${workspace.id}`.execute(tx);
  return { materialization, created: true, resumedRunId };
}

function stateFor(run: HoldingRun | undefined): MaterializationRow["state"] {
  if (run === undefined) return "requested";
  return run.lease_id === null ? "restoring" : "materializing";
}

async function resumeIfParked(tx: Tx, run: HoldingRun): Promise<string | undefined> {
  if (run.execution_status !== "parked") return undefined;
  await resumeForOperator(tx, run.id);
  return run.id;
}

/** A `requested` copy whose workspace a run has by now becomes the run's guest. */
export async function attachToRun(
  tx: Tx,
  live: MaterializationRow,
  run: HoldingRun,
): Promise<Pick<RequestedMaterialization, "materialization" | "resumedRunId">> {
  const resumedRunId = await resumeIfParked(tx, run);
  const { rows } = await sql<MaterializationRow>`
    update workspace_materializations m set run_id = ${run.id}, lease_id = ${run.lease_id}, updated_at = now(),
      worker_group_id = ${run.worker_group_id},
      worker_instance_id = ${run.lease_id === null ? null : run.worker_instance_id}, append_number = 0,
      fencing_generation = ${run.lease_id === null ? 0 : run.fencing}, state = ${stateFor(run)}
    where m.id = ${live.id} returning m.*`.execute(tx);
  const materialization = rows[0];
  if (materialization === undefined) throw new Error("a locked materialization is gone");
  return { materialization, resumedRunId };
}

/** Contract 7.8: what can be said without trying. How long a failure that was final is said again instead of a new try. */
const sayFailureAgainSeconds = 10;
const finalFailures: ReadonlySet<string> = new Set<ErrorCode>([
  "workspace_materialization_not_runnable",
  "workspace_version_missing",
  "workspace_version_not_ready",
  "workspace_version_artifact_missing",
  "workspace_version_artifact_corrupt",
  "deployment_sandbox_artifact_missing",
  "deployment_sandbox_artifact_corrupt",
  "workspace_materialization_prerequisite_failed",
]);

/** Whether trying again cannot help. */
export function isFinalFailure(code: string | undefined): code is ErrorCode {
  return code !== undefined && finalFailures.has(code);
}

async function requirePrerequisites(tx: Tx, workspace: LockedWorkspace["workspace"]): Promise<void> {
  const { rows } = await sql<{ sandbox: boolean; version: boolean; error: Record<string, unknown> | null }>`
    select exists (select from deployment_sandboxes s where s.id = ${workspace.deployment_sandbox_id}) as sandbox,
      ${workspace.current_version_id}::uuid is null
        or exists (select from workspace_versions v where v.id = ${workspace.current_version_id}) as version,
      (select m.error from workspace_materializations m where m.id = ${workspace.last_materialization_id}
        and m.state = 'failed' and m.ended_at > now() - ${sql.lit(sayFailureAgainSeconds)} * interval '1 second') as error
    `.execute(tx);
  const facts = rows[0];
  if (facts === undefined) throw new ApiError(404, "workspace not found");
  if (!facts.sandbox) throw codedError("deployment_sandbox_artifact_missing");
  if (!facts.version) throw codedError("workspace_version_missing");
  const code = typeof facts.error?.code === "string" ? facts.error.code : undefined;
  if (isFinalFailure(code)) throw codedError(code, String(facts.error?.message));
}
