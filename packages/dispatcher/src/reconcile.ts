/** Work that is due while nobody was told: the hint was lost, or a retry's delay is over. */
import { hasDueRuns, hasQueuedBuilds } from "@helmr/store";
import { type DispatcherContext, workTopic } from "./context.ts";
import type { Loop } from "./loop.ts";

/** Two index probes; waiting workers ask for themselves, so a hint too many costs them one claim. */
export function reconcileLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "reconcile",
    intervalMs,
    runPage: async (count) => {
      const isDue = (await hasDueRuns(db)) || (await hasQueuedBuilds(db));
      if (isDue) bus.publish(workTopic);
      count(isDue ? 1 : 0);
      return false;
    },
  };
}
