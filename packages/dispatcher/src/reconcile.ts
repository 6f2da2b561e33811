/** Work that is due while nobody was told: the hint was lost, or a retry's delay is over. */
import { listGroupsWithWork, workTopic } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import type { Loop } from "./loop.ts";

/** Index probes; waiting workers ask for themselves, so a hint too many costs them one claim. */
export function reconcileLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "reconcile",
    intervalMs,
    runPage: async (count) => {
      const groups = await listGroupsWithWork(db);
      for (const workerGroupId of groups) bus.publish(workTopic(workerGroupId));
      count(groups.length);
      return false;
    },
  };
}
