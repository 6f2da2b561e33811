/** requestCancel: a queued run ends at once; of a running one the worker is told, and the cancel wins at its end (I7). */
import { sql } from "kysely";
import type { Tx } from "../database.ts";
import { appendRunEvents } from "../events.ts";
import { columnText } from "../json.ts";
import type { Scope } from "../scope.ts";
import { cancelled, defaultCancelReason } from "./decide.ts";
import { isTerminal, type RunRow } from "./lifecycle.ts";
import { getRun } from "./read.ts";
import { type LockedRun, lockedColumns, settleRuns } from "./settle.ts";

export interface CancelRequest {
  /** Default "cancelled". */
  readonly reason?: string;
  /** The worker kills the guest without waiting for the task to react to its signal. */
  readonly force?: boolean;
}

export interface CancelResult {
  readonly run: RunRow;
  /** applied: the run is cancelled. pending: its worker is to be told. rejected: it had ended before. */
  readonly outcome: "applied" | "pending" | "rejected";
  /** Tell `worker:<id>` after the commit. */
  readonly workerInstanceId: string | null;
}

/** Cancel in the caller's transaction; undefined when the scope has no such run. Repeating it can add `force`. */
export async function requestCancel(
  tx: Tx,
  scope: Scope,
  runId: string,
  request: CancelRequest,
): Promise<CancelResult | undefined> {
  const { rows } = await sql<LockedRun>`select ${lockedColumns} from runs r
    where r.id = ${runId} and r.environment_id = ${scope.environmentId} for update`.execute(tx);
  const locked = rows[0];
  if (locked === undefined) return undefined;
  const outcome = await applyCancel(tx, locked, request);
  const run = await getRun(tx, scope, runId);
  return run === undefined ? undefined : { run, outcome, workerInstanceId: locked.worker_instance_id };
}

async function applyCancel(tx: Tx, run: LockedRun, request: CancelRequest): Promise<CancelResult["outcome"]> {
  if (isTerminal(run.status)) return "rejected";
  const reason = columnText(request.reason ?? defaultCancelReason);
  const force = request.force ?? false;
  const isFirst = run.cancel_requested_at === null;
  await sql`update runs set cancel_requested_at = coalesce(cancel_requested_at, now()), updated_at = now(),
      cancel_reason = coalesce(cancel_reason, ${reason}), cancel_force = cancel_force or ${force}::boolean,
      execution_status = case when lease_id is null then execution_status else 'cancelling' end
    where id = ${run.id}`.execute(tx);
  if (run.lease_id === null) {
    await settleRuns(tx, [{ run, decision: cancelled(reason) }]);
    return "applied";
  }
  if (isFirst)
    await appendRunEvents(tx, run.id, [{ kind: "run.cancel_requested", attributes: { reason, force } }]);
  return "pending";
}
