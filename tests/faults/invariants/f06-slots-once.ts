/**
 * F6: a slot of a schedule starts one session; who was told that a schedule is deleted or inactive sees no slot after that;
 * and an active one goes on.
 *
 * In the store: schedules F1 to F4.
 */
import { groupBy, type Invariant } from "./invariant.ts";

/** Fires whose dispatcher died are another's after its lease; one that failed is tried again after a minute. */
const lateMs = 90_000;

export const slotsOnce: Invariant = {
  number: "F6",
  claim: "slots of schedules fire once",
  check: ({ runs, schedules, seen, now }) => {
    const problems: string[] = [];
    const fired = runs.filter((run) => run.schedule_id !== null && run.turn_index === 0);
    for (const [id, own] of groupBy(fired, (run) => run.schedule_id ?? "")) {
      for (const [slot, same] of groupBy(
        own,
        (run) => (JSON.parse(run.payload) as { timestamp: string }).timestamp,
      )) {
        if (same.length > 1) problems.push(`schedule ${id}: slot ${slot} fired ${same.length} times`);
        const last = schedules.find((schedule) => schedule.id === id)?.last_fire_at;
        if (last != null && Date.parse(slot) > last)
          problems.push(
            `schedule ${id}: slot ${slot} has a run, and its last fire is ${new Date(last).toISOString()}`,
          );
      }
    }
    for (const schedule of schedules) {
      if (schedule.active && schedule.due_at !== null && schedule.due_at < now - lateMs)
        problems.push(`schedule ${schedule.id} is due since ${new Date(schedule.due_at).toISOString()}`);
      if (schedule.active && schedule.due_at === null)
        problems.push(`schedule ${schedule.id} is not planned`);
    }
    for (const { id, end } of seen.schedules) {
      const found = schedules.find((schedule) => schedule.id === id);
      if (end === "deleted" && found !== undefined) problems.push(`schedule ${id} was deleted, and is there`);
      if (end === "deactivated" && found?.active !== false)
        problems.push(`schedule ${id} was turned off, and is active`);
      if (end === "kept" && found?.active !== true)
        problems.push(`schedule ${id} was to stay, and is gone or inactive`);
    }
    return problems;
  },
};
