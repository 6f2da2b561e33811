/** fireSchedule and failFire: how a claimed slot ends. F2 to F5. */
import { ApiError, apiVersion, nextSlots } from "@helmr/api";
import { sql } from "kysely";
import { systemActor } from "../audit.ts";
import { type Queryable, retryConflicts } from "../database.ts";
import { columnText } from "../json.ts";
import { type StartSession, startSessionAnd } from "../sessions/index.ts";
import type { ClaimedFire } from "./claim.ts";
import { jitterOf, type Plan, planSlot, unplanned } from "./lifecycle.ts";

/** What became of a claim; `dueAt`: when the schedule is to be looked at again, null for not any more. */
export type FireOutcome =
  | {
      readonly status: "fired";
      readonly dueAt: Date | null;
      readonly runId?: string | undefined;
      readonly workerGroupId?: string | undefined;
    }
  | { readonly status: "failed" | "skipped"; readonly dueAt: Date | null }
  | { readonly status: "superseded" };

const upcomingSlots = 10;
const keyTtlMs = 30 * 86_400_000;
const actor = systemActor("dispatcher");

/** F2: the claim counts no more. */
class SupersededError extends Error {
  override readonly name = "SupersededError";
}

/**
 * Start the session of the slot and plan the next one. Throws what starting throws, among it the ApiErrors of contract 3.1: hand
 * that to `failFire`.
 */
export async function fireSchedule(
  db: Queryable,
  fire: ClaimedFire,
  { jitterMs, traceContext }: { readonly jitterMs: number; readonly traceContext?: string | undefined },
): Promise<FireOutcome> {
  const { plan, upcoming } = planFurther(fire, jitterMs);
  const advance = (on: Queryable) => endClaim(on, fire, plan, { fired: true });
  try {
    const start = { ...startOf(fire, upcoming), traceContext };
    // Pending: who held an earlier lease is at it in this moment, and will find that it counts no more.
    const started = await retryConflicts(
      () =>
        startSessionAnd(db, { ...fire.scope, actor }, start, async (tx) => {
          if (!(await advance(tx))) throw new SupersededError();
        }),
      (error) => error instanceof ApiError && error.code === "idempotency_pending",
    );
    return {
      status: "fired",
      dueAt: plan.due_at,
      runId: started?.run.id,
      workerGroupId: started?.run.worker_group_id,
    };
  } catch (error) {
    if (error instanceof SupersededError) return { status: "superseded" };
    // F3: the slot has its session. It was started with other settings: before a clock went back, say.
    if (!(error instanceof ApiError) || error.code !== "idempotency_fingerprint_mismatch") throw error;
    return (await advance(db)) ? { status: "fired", dueAt: plan.due_at } : { status: "superseded" };
  }
}

/** F5. Of an error that is no ApiError only that there was one is kept: its words are not for users. */
export async function failFire(
  db: Queryable,
  fire: ClaimedFire,
  error: unknown,
  { jitterMs, maxAttempts }: { readonly jitterMs: number; readonly maxAttempts: number },
): Promise<FireOutcome> {
  const reason =
    error instanceof ApiError && error.status < 500
      ? error.message
      : "the session could not be started: an internal error, which the dispatcher's log tells of";
  const isLast = fire.attempt >= maxAttempts;
  const plan: Plan = isLast
    ? planFurther(fire, jitterMs).plan
    : { next_fire_at: fire.slot, due_at: new Date(fire.claimedAt.getTime() + backoffMs(fire.attempt)) };
  const lastError = isLast
    ? `skipped ${fire.slot.toISOString()} after ${fire.attempt} attempts: ${reason}`
    : reason;
  const ended = await endClaim(db, fire, plan, { fired: false, lastError, isLast });
  if (!ended) return { status: "superseded" };
  return { status: isLast ? "skipped" : "failed", dueAt: plan.due_at };
}

/** Contract 8.2. */
export function backoffMs(attempt: number): number {
  return Math.min(attempt ** 2, 60) * 60_000;
}

/** F4. */
function planFurther(fire: ClaimedFire, jitterMs: number): { plan: Plan; upcoming: Date[] } {
  const notPastMs = fire.claimedAt.getTime() - jitterOf(fire.id, jitterMs);
  const after = new Date(Math.max(fire.slot.getTime(), notPastMs));
  const upcoming = nextSlots(fire.cron, fire.timezone, after, upcomingSlots);
  const [next] = upcoming;
  return { plan: next === undefined ? unplanned : planSlot(fire.id, next, jitterMs), upcoming };
}

type End =
  | { readonly fired: true }
  | { readonly fired: false; readonly lastError: string; readonly isLast: boolean };

/** F2: false when the claim counts no more. */
async function endClaim(
  db: Queryable,
  { id, fencing, slot }: ClaimedFire,
  { next_fire_at, due_at }: Plan,
  end: End,
): Promise<boolean> {
  const outcome = end.fired
    ? sql`last_fire_at = ${slot}, last_error = null, attempt = 0`
    : sql`last_error = ${columnText(end.lastError)}, attempt = case when ${end.isLast} then 0 else attempt end`;
  const { numAffectedRows = 0n } = await sql`update schedules set next_fire_at = ${next_fire_at}::timestamptz,
      due_at = ${due_at}::timestamptz, lease_expires_at = null, fencing = fencing + 1, ${outcome}
    where id = ${id} and fencing = ${fencing}`.execute(db);
  return numAffectedRows > 0n;
}

function startOf(fire: ClaimedFire, upcoming: readonly Date[]): StartSession {
  const { options, slot } = fire;
  const timestamp = slot.toISOString();
  return {
    taskId: fire.taskId,
    payload: payloadOf(fire, upcoming),
    queueName: options.queue_name,
    concurrencyKey: options.concurrency_key,
    priority: options.priority,
    ttl: options.ttl,
    maxDurationSeconds: options.max_duration_seconds,
    metadata: {},
    tags: [],
    idempotencyKey: `schedule:${fire.id}:${timestamp}`, // F3
    idempotencyKeyTtlMs: keyTtlMs,
    schedule: { id: fire.id, timestamp },
    apiVersion,
  };
}

/** Contract 8.2: camelCase, and nothing where there is nothing. */
function payloadOf(fire: ClaimedFire, upcoming: readonly Date[]): Record<string, unknown> {
  return {
    timestamp: fire.slot.toISOString(),
    ...(fire.lastSlot === null ? {} : { lastTimestamp: fire.lastSlot.toISOString() }),
    timezone: fire.timezone,
    scheduleId: fire.id,
    scheduleType: fire.type,
    ...(fire.externalId === null ? {} : { externalId: fire.externalId }),
    upcoming: upcoming.map((each) => each.toISOString()),
  };
}
