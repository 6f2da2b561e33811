/** finishRuns: workers report the end of attempts; retry, cancel or terminal state is decided here. */
import { sql } from "kysely";
import { type Queryable, retryConflicts, transaction } from "../database.ts";
import { statement } from "../statement.ts";
import { decideOutcome, type RunOutcome } from "./decide.ts";
import { finishSucceeded } from "./finish-succeeded.ts";
import { type LockedRun, lockedColumns, settleRuns } from "./settle.ts";

/** What a worker's write names (I2). */
export interface LeaseRef {
  readonly workerInstanceId: string;
  readonly leaseId: string;
  readonly fencing: number;
}

export interface FinishInput extends LeaseRef {
  readonly outcome: RunOutcome;
}

/** Which run a lease was of, for the hints that follow. */
export interface RunRef {
  readonly runId: string;
  readonly environmentId: string;
  readonly sessionId: string;
}

/** `lost`: the lease is not (or no longer) this worker's; nothing was written. */
export type FinishResult =
  | ({ readonly status: "accepted" | "retry_scheduled" } & RunRef)
  | { readonly status: "lost" };

/** Finish several attempts; results in the order of the input. Each is written or not, on its own. */
export async function finishRuns(db: Queryable, inputs: readonly FinishInput[]): Promise<FinishResult[]> {
  const succeeded = inputs.flatMap(({ outcome, ...lease }) =>
    outcome.status === "succeeded" ? [{ ...lease, outputJson: outcome.outputJson }] : [],
  );
  const finished =
    succeeded.length === 0 ? undefined : await retryConflicts(() => finishSucceeded(db, succeeded));
  const others = inputs.filter((input) => !finished?.has(input.leaseId));
  const decided = others.length === 0 ? [] : await finishDecided(db, others);
  return inputs.map((input): FinishResult => {
    const ref = finished?.get(input.leaseId);
    if (ref === undefined) return decided[others.indexOf(input)] ?? { status: "lost" };
    finished?.delete(input.leaseId); // a lease named twice is finished once
    return { status: "accepted", ...ref };
  });
}

async function finishDecided(db: Queryable, inputs: readonly FinishInput[]): Promise<FinishResult[]> {
  return await transaction(db, async (tx) => {
    const locked = await lockByLease(tx, inputs);
    const settled = inputs.map((input) => {
      const run = locked.get(input.leaseId);
      if (run === undefined || !holds(run, input)) return undefined;
      locked.delete(input.leaseId); // a lease named twice is finished once
      return { run, decision: decideOutcome(run, input.outcome) };
    });
    await settleRuns(
      tx,
      settled.filter((each) => each !== undefined),
    );
    return settled.map((each): FinishResult => {
      if (each === undefined) return { status: "lost" };
      const { id: runId, environment_id: environmentId, session_id: sessionId } = each.run;
      const status = each.decision.status === "queued" ? "retry_scheduled" : "accepted";
      return { status, runId, environmentId, sessionId };
    });
  });
}

/** I2 */
export function holds(
  run: { readonly worker_instance_id: string | null; readonly fencing: number },
  lease: LeaseRef,
): boolean {
  return run.worker_instance_id === lease.workerInstanceId && run.fencing === lease.fencing;
}

/** In order of id, as every statement that locks several runs does, so that two of them cannot deadlock. */
async function lockByLease(db: Queryable, inputs: readonly FinishInput[]): Promise<Map<string, LockedRun>> {
  const rows = await lockRuns(db, { leaseIds: inputs.map((input) => input.leaseId) });
  return new Map(rows.map((row) => [row.lease_id ?? "", row]));
}

const lockRuns = statement<{ leaseIds: string[] }, LockedRun>(
  (p) => sql`select ${lockedColumns} from runs r where r.lease_id = any (${p("leaseIds")}::uuid[])
    order by r.id for update`,
);
