/**
 * The fire index is put right from the database: page by page whatever is due soon. When the index does not answer, what is
 * due is fired from here, so that nothing is later than the time between two repairs.
 */
import { claimFires, listPlannedFires, type PlannedFire } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import { fireAll } from "./fire-schedules.ts";
import type { Loop } from "./loop.ts";

export function repairSchedulesLoop(context: DispatcherContext): Loop {
  const { db, schedules } = context;
  const { index, clock, settings } = schedules;
  /** Where the next page begins. */
  let after: PlannedFire | undefined;
  return {
    name: "repair-schedules",
    intervalMs: settings.repairEveryMs,
    runPage: async (count) => {
      const { now, fires } = await listPlannedFires(db, {
        lookaheadMs: settings.repairLookaheadMs,
        limit: settings.repairLimit,
        after,
        now: clock.forDatabase(),
      });
      clock.note(now);
      const isFull = fires.length === settings.repairLimit;
      after = isFull ? fires.at(-1) : undefined;
      count(fires.length);
      if (fires.length === 0) return false;
      try {
        await index.put(fires.map(({ id, dueAt }) => ({ id, dueMs: dueAt.getTime() })));
        return isFull;
      } catch {
        // It has said so itself.
        after = undefined;
        return await fireDue();
      }
    },
  };

  async function fireDue(): Promise<boolean> {
    const limit = settings.repairLimit;
    const fires = await claimFires(db, { limit, leaseMs: settings.leaseMs, now: clock.forDatabase() });
    await fireAll(context, fires);
    return fires.length === limit;
  }
}
