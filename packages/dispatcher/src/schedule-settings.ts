/** How schedules are fired; from the environment (process/variables.ts), and in `helmr dev` the defaults. */
export interface ScheduleSettings {
  /** How often the fire index is put right from the database. */
  readonly repairEveryMs: number;
  /** Schedules of one page of that. */
  readonly repairLimit: number;
  /** How far ahead: more than `repairEveryMs`, so that an entry is there before its time. */
  readonly repairLookaheadMs: number;
  /** How often the fire index is asked for what is due. */
  readonly triggerEveryMs: number;
  /** Sessions of one process that are started at a time. */
  readonly triggerConcurrency: number;
  /** A fire whose dispatcher is gone is another's after that. */
  readonly leaseMs: number;
  /** Of one slot, before it is skipped. */
  readonly maxAttempts: number;
  readonly jitterMs: number;
}

export const defaultScheduleSettings: ScheduleSettings = {
  repairEveryMs: 5_000,
  repairLimit: 100,
  repairLookaheadMs: 40_000,
  triggerEveryMs: 400,
  triggerConcurrency: 10,
  leaseMs: 5 * 60_000,
  maxAttempts: 10,
  jitterMs: 30_000,
};
