/** Schedules: lifecycle.ts says what there is. */
export * from "./change.ts";
export * from "./claim.ts";
export * from "./create.ts";
export * from "./fire.ts";
export { type ScheduleRow, type ScheduleTiming, scheduleNextFireAt, scheduleStatus } from "./lifecycle.ts";
export * from "./read.ts";
