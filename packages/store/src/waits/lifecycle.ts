/**
 * The waits of runs. No code outside of this folder writes run_waits and run_checkpoints, but ../runs/leave-waits.ts, by
 * which both go when a run leaves its attempt.
 *
 *   from      to          verb                                     the run, when it has a lease / when it is parked
 *   -         pending     createWait                               running -> waiting
 *   -         completed   createWait: what it waits for is there   stays running
 *   pending   completed   resolveWait (input, token, due timer)    -> running        / -> queued, to resume
 *   pending   timed_out   resolveWait (timeout_at has passed)      -> running        / -> queued, to resume
 *   pending   cancelled   resolveWait (token cancelled);           -> running        / -> queued, to resume
 *                         leaveWaits (run ended or starts again)   as that transition says
 *
 *   waiting -> parked: parkRun records the checkpoint and lets go of the lease, unless the wait is resolved by then, or
 *     somebody works in the workspace.
 *   parked -> queued, to resume, with the wait pending: resumeForOperator. Once started it waits as before.
 *
 * Invariants; the property test in ../../test checks them after every step:
 *   V1  A run has at most one pending wait, and has one while its status is waiting; else only while it comes back from the
 *       checkpoint of that wait (queued to resume, or leased for it).
 *   V2  A wait leaves `pending` once: every verb locks the run before it reads the wait.
 *   V3  A repeated createWait (same attempt and number) is the same wait.
 *   V4  A parked run has a checkpoint of its pending wait, and no lease.
 *   V5  What a wait gives is decided and written here, in the transaction that ends it: a record is taken from its stream
 *       by exactly one wait or read of an attempt.
 */
import { type RawBuilder, sql } from "kysely";
import type { WaitKind, WaitStatus } from "../schema-waits.ts";

/** Restores of one checkpoint that may fail before the run starts again without it. */
export const maxFailedRestores = 3;
/** What an event tells of a wait's result; a larger one is left out, with its size. */
export const maxEventResultBytes = 64 * 1024;

export interface WaitRow {
  readonly id: string;
  readonly environment_id: string;
  readonly run_id: string;
  readonly attempt_number: number;
  readonly number: number;
  readonly kind: WaitKind;
  readonly status: WaitStatus;
  readonly params: Record<string, unknown>;
  readonly metadata: Record<string, unknown>;
  readonly tags: string[];
  readonly stream_id: string | null;
  readonly correlation_id: string | null;
  readonly after_sequence: number | null;
  readonly token_id: string | null;
  readonly timeout_at: Date | null;
  /** JSON text. */
  readonly result: string | null;
  readonly created_at: Date;
  readonly resolved_at: Date | null;
}

export const waitColumns: RawBuilder<unknown> = sql`w.id, w.environment_id, w.run_id, w.attempt_number, w.number, w.kind,
  w.status, w.params, w.metadata, w.tags, w.stream_id, w.correlation_id, w.after_sequence, w.token_id, w.timeout_at,
  w.result, w.created_at, w.resolved_at`;
