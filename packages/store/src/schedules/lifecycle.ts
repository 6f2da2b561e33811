/**
 * Schedules: sessions that time starts. No code outside of this folder writes the table.
 *
 *   state      due_at   lease   enters by                                   leaves by
 *   inactive   null     none    deactivateSchedule, updateSchedule,         activateSchedule, updateSchedule
 *                               createSchedule with active: false
 *   planned    set      none    createSchedule, activateSchedule,           claimFires from due_at on, and every change
 *                               updateSchedule, applyDeploymentSchedules,
 *                               fireSchedule, failFire
 *   leased     set      set     claimFires                                  fireSchedule, failFire; claimFires when the lease
 *                                                                           is over; every change
 *   gone       -        -       deleteSchedule, applyDeploymentSchedules    never
 *
 * A slot is a time of the pattern (C1 to C4 of cron.ts). next_fire_at is the slot that fires next, last_fire_at the last that did;
 * due_at is next_fire_at, later by the schedule's jitter, and by the backoff of what failed.
 *
 *   F1 due_at and next_fire_at are set together, and only while the schedule is active. Neither is set when the pattern has
 *      no time left.
 *   F2 `fencing` grows with every claim, every end of one and every change. fireSchedule and failFire name that of their claim;
 *      when it is not the schedule's, or the schedule is gone, nothing happens: a change or a deletion supersedes the lease.
 *   F3 One slot starts one session: in the transaction that starts it next_fire_at moves past the slot, under F2. The
 *      session's idempotency key, made of schedule and slot, says the same once more.
 *   F4 next_fire_at is later than last_fire_at, always. What was missed while nothing ran is not made up for: the slot that was due
 *      fires once, then the first slot that is not past. With the jitter added: a slot within it is not past yet.
 *   F5 A fire that fails is tried again after attempt^2 minutes, at most an hour (contract 8.2), with last_error set. After
 *      the last attempt the slot is skipped and the next one planned; last_error stays until a fire succeeds.
 *   F6 The environment's row is locked before the schedule's: deletion holds them in this order too.
 *   F7 The jitter of a schedule is always the same part of the configured one: it comes from the schedule's id.
 *   F8 A declarative schedule is exactly what the current deployment's task declares; there is one per environment and task.
 */
import { createHash } from "node:crypto";
import { nextSlot } from "@helmr/api";
import type { Selectable } from "kysely";
import { sql } from "kysely";
import type { Queryable } from "../database.ts";
import type { SchedulesSchema } from "../schema-schedules.ts";

export type ScheduleRow = Selectable<SchedulesSchema["schedules"]>;

export interface ScheduleTiming {
  /** Fires are spread over this long after their slot. */
  readonly jitterMs: number;
  /** Default: the database's clock. Tests give their own. */
  readonly now?: Date | undefined;
}

/** The database's clock, or that of a test. */
export async function readClock(db: Queryable, now: Date | undefined): Promise<Date> {
  if (now !== undefined) return now;
  const { rows } = await sql<{ now: Date }>`select now()`.execute(db);
  return rows[0]?.now ?? new Date();
}

/** F7, in milliseconds. */
export function jitterOf(scheduleId: string, jitterMs: number): number {
  const part = createHash("sha256").update(scheduleId).digest().readUInt32BE(0) / 2 ** 32;
  return Math.floor(part * jitterMs);
}

export interface Plan {
  readonly next_fire_at: Date | null;
  readonly due_at: Date | null;
}

export const unplanned: Plan = { next_fire_at: null, due_at: null };

/** F1: the first slot after an instant. */
export function planAfter(
  schedule: Pick<ScheduleRow, "id" | "cron" | "timezone">,
  after: Date,
  jitterMs: number,
): Plan {
  const slot = nextSlot(schedule.cron, schedule.timezone, after);
  return slot === undefined ? unplanned : planSlot(schedule.id, slot, jitterMs);
}

export function planSlot(scheduleId: string, slot: Date, jitterMs: number): Plan {
  return { next_fire_at: slot, due_at: new Date(slot.getTime() + jitterOf(scheduleId, jitterMs)) };
}

/** Contract 8.2. */
export function scheduleStatus(
  schedule: Pick<ScheduleRow, "active" | "last_error">,
): "active" | "inactive" | "errored" {
  if (schedule.last_error !== null) return "errored";
  return schedule.active ? "active" : "inactive";
}

/** When something happens next: the slot, or the next attempt at one that failed. */
export function scheduleNextFireAt(
  schedule: Pick<ScheduleRow, "next_fire_at" | "due_at" | "last_error" | "attempt">,
): Date | null {
  return schedule.attempt > 0 && schedule.last_error !== null ? schedule.due_at : schedule.next_fire_at;
}
