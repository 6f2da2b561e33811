/** Saving a workspace on request: its live copy is asked, or the current version is what there is to save. */
import { recordScopeAudit } from "../audit.ts";
import type { Queryable, Tx } from "../database.ts";
import { inWorkspace, type LockedWorkspace } from "../materializations/lock.ts";
import { ensureLive, type RequestedMaterialization } from "../materializations/request.ts";
import type { ActingScope } from "../scope.ts";
import { noteIdempotency, recallIdempotency } from "./idempotency.ts";
import { askLocked } from "./requests.ts";

export interface CaptureRequest {
  readonly message?: string | undefined;
  readonly idempotencyKey?: string | undefined;
  readonly idempotencyKeyTtlMs: number;
}

/** `versionId`: there is nothing to ask for. `requestId`: the question whose answer names the version. Neither: no files yet. */
export interface RequestedCapture {
  readonly versionId?: string | undefined;
  readonly requestId?: string | undefined;
  readonly requested?: RequestedMaterialization | undefined;
  readonly currentVersionId: string | null;
}

const maxWaitMs = 60_000;

/**
 * Undefined without such a workspace; `stopping`: it is being saved, ask again. A run's guest is asked, too; the files of a
 * parked run are those of its checkpoint, saved with it.
 */
export async function requestCapture(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  request: CaptureRequest,
): Promise<RequestedCapture | "stopping" | undefined> {
  return await inWorkspace(db, scope, workspaceId, async (tx, locked) => {
    const { current_version_id: currentVersionId } = locked.workspace;
    const known = await recallIdempotency(tx, scope, keyOf(workspaceId, request));
    if (known !== undefined) return { versionId: known, currentVersionId };
    if (!hasUnsavedFiles(locked)) return { versionId: currentVersionId ?? undefined, currentVersionId };
    const requested = await ensureLive(tx, locked);
    if (requested === "stopping") return "stopping";
    const { message } = request;
    const question = { kind: "save", ...(message === undefined ? {} : { message }) } as const;
    const asked = await askLocked(tx, scope, requested.materialization.id, question, maxWaitMs);
    await audit(tx, scope, workspaceId, requested.materialization.id);
    return { requestId: asked?.requestId, requested, currentVersionId };
  });
}

function hasUnsavedFiles({ live, run }: LockedWorkspace): boolean {
  return (live !== undefined && live.state !== "requested") || (run !== undefined && run.lease_id !== null);
}

async function audit(
  tx: Tx,
  scope: ActingScope,
  workspaceId: string,
  materializationId: string,
): Promise<void> {
  await recordScopeAudit(tx, scope, {
    action: "workspace.capture",
    resourceId: workspaceId,
    attributes: { materialization_id: materializationId },
  });
}

/** The key's version from now on, unless another request with it was answered first. */
export async function noteCapture(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  request: CaptureRequest & { readonly versionId: string },
): Promise<void> {
  if (request.idempotencyKey === undefined) return;
  await inWorkspace(db, scope, workspaceId, async (tx) => {
    const key = keyOf(workspaceId, request);
    if ((await recallIdempotency(tx, scope, key)) === undefined)
      await noteIdempotency(tx, scope, key, request.versionId);
  });
}

function keyOf(workspaceId: string, { idempotencyKey, idempotencyKeyTtlMs, message }: CaptureRequest) {
  return {
    scopeName: `workspace.capture:${workspaceId}`,
    key: idempotencyKey,
    ttlMs: idempotencyKeyTtlMs,
    parts: { message: message ?? null },
  };
}
