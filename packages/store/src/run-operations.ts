/**
 * What people asked of a run, kept: today cancel only.
 *
 *   pending   the run's worker was told; reads as applied once the run has ended
 *   applied   the run is cancelled
 *   rejected  the run had ended before
 */
import { createHash } from "node:crypto";
import { canonicalJson, codedError } from "@helmr/api";
import type { Selectable } from "kysely";
import { recordScopeAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { getRun, isTerminal, type RunRow, requestCancel } from "./runs/index.ts";
import type { Schema } from "./schema.ts";
import type { ActingScope, Scope } from "./scope.ts";

export type RunOperationRow = Omit<
  Selectable<Schema["run_operations"]>,
  "environment_id" | "idempotency_key" | "fingerprint"
>;

export interface CancelRun {
  readonly reason?: string | undefined;
  readonly force?: boolean | undefined;
  readonly idempotencyKey?: string | undefined;
}

export interface CancelledRunOperation {
  readonly run: RunRow;
  readonly operation: RunOperationRow;
  /** Tell `worker:<id>` after the commit. */
  readonly workerInstanceId: string | null;
}

/** Undefined when the scope has no such run; throws idempotency_fingerprint_mismatch. */
export async function cancelRun(
  db: Queryable,
  scope: ActingScope,
  runId: string,
  request: CancelRun,
): Promise<CancelledRunOperation | undefined> {
  const fingerprint = createHash("sha256")
    .update(canonicalJson({ reason: request.reason, force: request.force ?? false }))
    .digest();
  return await transaction(db, async (tx) => {
    // The run's lock first: of two requests with one key the second sees the first's operation.
    const locked = await tx
      .selectFrom("runs")
      .select("id")
      .where("id", "=", runId)
      .where("environment_id", "=", scope.environmentId)
      .forUpdate()
      .executeTakeFirst();
    if (locked === undefined) return undefined;
    const earlier = await findOperation(tx, scope, runId, request.idempotencyKey, fingerprint);
    if (earlier !== undefined) return earlier;
    return await applyCancel(tx, scope, runId, request, fingerprint);
  });
}

async function findOperation(
  tx: Tx,
  scope: Scope,
  runId: string,
  idempotencyKey: string | undefined,
  fingerprint: Buffer,
): Promise<CancelledRunOperation | undefined> {
  if (idempotencyKey === undefined) return undefined;
  const row = await tx
    .selectFrom("run_operations")
    .selectAll()
    .where("run_id", "=", runId)
    .where("idempotency_key", "=", idempotencyKey)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  if (!row.fingerprint.equals(fingerprint)) throw codedError("idempotency_fingerprint_mismatch");
  const run = await getRun(tx, scope, runId);
  if (run === undefined) return undefined;
  const applied = row.status === "pending" && isTerminal(run.status);
  const operation = applied ? { ...row, status: "applied" as const, applied_at: run.ended_at } : row;
  return { run, operation, workerInstanceId: null };
}

async function applyCancel(
  tx: Tx,
  scope: ActingScope,
  runId: string,
  request: CancelRun,
  fingerprint: Buffer,
): Promise<CancelledRunOperation | undefined> {
  const result = await requestCancel(tx, scope, runId, {
    ...(request.reason === undefined ? {} : { reason: request.reason }),
    ...(request.force === undefined ? {} : { force: request.force }),
  });
  if (result === undefined) return undefined;
  await recordScopeAudit(tx, scope, {
    action: "run.cancel",
    resourceId: runId,
    attributes: { outcome: result.outcome, force: request.force ?? false },
  });
  const operation = await tx
    .insertInto("run_operations")
    .values({
      id: uuidv7(),
      environment_id: scope.environmentId,
      run_id: runId,
      kind: "cancel",
      status: result.outcome,
      reason: request.reason ?? null,
      idempotency_key: request.idempotencyKey ?? null,
      fingerprint,
      ...(result.outcome === "applied" ? { applied_at: new Date() } : {}),
    })
    .returning(["id", "run_id", "kind", "status", "reason", "created_at", "applied_at"])
    .executeTakeFirstOrThrow();
  return { run: result.run, operation, workerInstanceId: result.workerInstanceId };
}
