/** What the fire index says is due is claimed in the database, and fired. */
import type { ClaimedEntry } from "@helmr/coordination";
import { claimFires } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import { fireAll } from "./fire-schedules.ts";
import type { Loop } from "./loop.ts";

/** So many rounds of `triggerConcurrency` are claimed at a time: far fewer than a lease lasts for. */
const roundsPerPage = 5;

export function triggerSchedulesLoop(context: DispatcherContext): Loop {
  const { db, schedules } = context;
  const { index, clock, settings } = schedules;
  const limit = settings.triggerConcurrency * roundsPerPage;
  return {
    name: "trigger-schedules",
    intervalMs: settings.triggerEveryMs,
    runPage: async (count) => {
      const entries = await claimDue();
      if (entries.length === 0) return false;
      const ids = entries.map(({ id }) => id);
      const fires = await claimFires(db, {
        ids,
        limit,
        leaseMs: settings.leaseMs,
        now: clock.forDatabase(),
      });
      count(fires.length);
      const next = await fireAll(context, fires);
      // Of what could not be claimed the entry goes: the repair knows better.
      const settled = entries.map((entry) => ({ ...entry, nextMs: next.get(entry.id)?.getTime() }));
      await index.settle(settled).catch(() => undefined);
      return entries.length === limit;
    },
  };

  /** Nothing when the index does not answer, which it has said itself: then the repair fires. */
  async function claimDue(): Promise<readonly ClaimedEntry[]> {
    try {
      return await index.claim({ nowMs: clock.nowMs(), limit, leaseMs: settings.leaseMs });
    } catch {
      return [];
    }
  }
}
