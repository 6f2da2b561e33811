/** What becomes of a run: pure decisions about a locked row (contract 6.1, 13.4, 13.10). */
import type { RetryPolicy } from "@helmr/api";
import type { NewEvent } from "../events.ts";
import { maxLosses } from "./lifecycle.ts";
import type { Decision, LockedRun, Settlement } from "./settle.ts";

/** What a worker reports at the end of an attempt. */
export type RunOutcome =
  | { readonly status: "succeeded"; readonly outputJson?: string | undefined }
  | {
      readonly status: "failed";
      readonly failureKind: string;
      readonly message: string;
      readonly detail: Readonly<Record<string, unknown>>;
      readonly exitCode?: number | undefined;
      readonly retryable: boolean;
    }
  | { readonly status: "cancelled"; readonly reason: string };

/** Contract 13.4: a second attempt would read the same source. */
const nonRetryableKinds = new Set([
  "task_not_found",
  "duplicate_task_id",
  "missing_config",
  "task_parse_failed",
]);
/** Contract 13.4. */
const defaultBackoff = { minMs: 1000, maxMs: 30_000, factor: 2, jitter: "full" } as const;
export const completedEvent: NewEvent = {
  kind: "run.completed",
  source: "guest",
  attributes: { exit_code: 0 },
};
export const defaultCancelReason = "cancelled";

export function decideOutcome(run: LockedRun, outcome: RunOutcome): Decision {
  // I7
  if (run.cancel_requested_at !== null) return cancelled(run.cancel_reason ?? defaultCancelReason);
  if (outcome.status === "cancelled") return cancelled(outcome.reason);
  if (outcome.status === "succeeded") {
    return {
      status: "succeeded",
      exitCode: 0,
      ...(outcome.outputJson === undefined ? {} : { outputJson: outcome.outputJson }),
      events: [completedEvent],
    };
  }
  return decideFailure(run, outcome);
}

function decideFailure(run: LockedRun, outcome: RunOutcome & { status: "failed" }): Decision {
  const detail = { message: outcome.message, ...outcome.detail };
  const delayMs =
    outcome.retryable && !nonRetryableKinds.has(outcome.failureKind) ? retryDelayMs(run) : undefined;
  if (delayMs === undefined) return failed(outcome.failureKind, detail, outcome.exitCode);
  return {
    status: "queued",
    executionStatus: "retry_scheduled",
    delayMs,
    events: [
      {
        kind: "run.retry_scheduled",
        severity: "warn",
        attributes: {
          attempt_number: run.attempt_number,
          failure_kind: outcome.failureKind,
          detail,
          delay_ms: delayMs,
          available_at: new Date(Date.now() + delayMs).toISOString(),
        },
      },
    ],
  };
}

/** Milliseconds until the next attempt, undefined when the policy allows none. A lost attempt uses up no try. */
function retryDelayMs(run: LockedRun): number | undefined {
  const policy = run.retry_policy as RetryPolicy;
  const attempt = run.attempt_number - run.lost_count;
  if (policy.enabled === false || attempt >= policy.maxAttempts) return undefined;
  const { minMs = defaultBackoff.minMs, maxMs = defaultBackoff.maxMs } = policy.backoff ?? {};
  const { factor = defaultBackoff.factor, jitter = defaultBackoff.jitter } = policy.backoff ?? {};
  const delayMs = Math.min(maxMs, minMs * factor ** (attempt - 1));
  return Math.round(jitter === "full" ? Math.random() * delayMs : delayMs);
}

/** The lease ran out, its worker registered anew, or the max duration is long over. */
export function decideLoss(run: LockedRun, cause: "lease_lost" | "max_duration"): Decision {
  const started = run.started_at !== null;
  if (run.cancel_requested_at !== null) {
    const decision = cancelled(run.cancel_reason ?? defaultCancelReason);
    return {
      ...decision,
      lost: true,
      events: [...lossEvents("run_lease.lost_cancelled", run, started), ...decision.events],
    };
  }
  if (cause === "max_duration") {
    const limit = run.max_duration_seconds;
    const detail = { message: `the task ran longer than its maximum of ${limit} s`, limit_seconds: limit };
    const decision = failed("max_duration", detail);
    return {
      ...decision,
      lost: true,
      events: [...lossEvents("run_lease.lost_failed", run, started), ...decision.events],
    };
  }
  const losses = run.lost_count + 1;
  if (losses >= maxLosses) {
    const message =
      `the worker was lost ${losses} times while it had this run, so it is not tried again: ` +
      "look into the worker's log, and whether the task takes more memory than its sandbox has";
    const decision = failed("worker_lease_expired", { message, lost_count: losses });
    return {
      ...decision,
      lost: true,
      events: [...lossEvents("run_lease.lost_failed", run, started), ...decision.events],
    };
  }
  const kind = started ? "run_lease.lost_requeued" : "run_lease.abandoned_requeued";
  return {
    status: "queued",
    executionStatus: againFrom(run),
    delayMs: 0,
    lost: true,
    events: lossEvents(kind, run, started),
  };
}

/** The lease never reached its worker; the attempt did not happen, so it uses up no try either. */
export function decideRelease(run: LockedRun): Decision {
  if (run.cancel_requested_at !== null) return cancelled(run.cancel_reason ?? defaultCancelReason);
  const attributes = { worker_instance_id: run.worker_instance_id };
  const events = [{ kind: "run_lease.abandoned_requeued", attributes }];
  return { status: "queued", executionStatus: againFrom(run), delayMs: 0, released: true, events };
}

/** `worker_drained`: its time was over; `no_room`: the worker has not what the run's sandbox needs, just now. */
export type HandBackReason = "worker_drained" | "no_room";

/**
 * The worker gives the lease back. An attempt that goes on from a checkpoint, or did not begin, keeps its number; one that
 * begins anew counts as lost, which uses up no try. However often that is: only workers that die fail a run for it.
 */
export function decideHandBack(run: LockedRun, reason: HandBackReason): Decision {
  if (run.cancel_requested_at !== null) return cancelled(run.cancel_reason ?? defaultCancelReason);
  const attributes = { worker_instance_id: run.worker_instance_id, reason };
  const requeued: NewEvent = { kind: "run_lease.abandoned_requeued", attributes };
  const again = { status: "queued", executionStatus: againFrom(run), delayMs: 0 } as const;
  if (run.started_at === null) return { ...again, released: true, events: [requeued] };
  const lost: NewEvent = { kind: "run.execution_lost", severity: "warn", attributes };
  return { ...again, lost: run.checkpoint_id === null, events: [lost, requeued] };
}

/** A lost run goes on from its checkpoint when it has one. */
function againFrom(run: LockedRun): "queued" | "resume_queued" {
  return run.checkpoint_id === null ? "queued" : "resume_queued";
}

function lossEvents(kind: string, run: LockedRun, started: boolean): NewEvent[] {
  const attributes = { worker_instance_id: run.worker_instance_id, lost_count: run.lost_count + 1 };
  const lease: NewEvent = { kind, severity: "warn", attributes };
  return started ? [{ kind: "run.execution_lost", severity: "warn", attributes }, lease] : [lease];
}

export function cancelled(reason: string): Settlement {
  return { status: "cancelled", events: [{ kind: "run.cancelled", attributes: { reason } }] };
}

export function expired(ttl: string): Settlement {
  const message = `the run was not started within its ttl of ${ttl}`;
  return {
    status: "expired",
    events: [{ kind: "run.expired", severity: "warn", attributes: { ttl, message } }],
  };
}

function failed(
  failureKind: string,
  detail: Readonly<Record<string, unknown>>,
  exitCode?: number,
): Settlement {
  return {
    status: "failed",
    failureKind,
    failureDetail: detail,
    ...(exitCode === undefined ? {} : { exitCode }),
    events: [{ kind: "run.failed", severity: "error", attributes: { failure_kind: failureKind, detail } }],
  };
}
