/** Projects and environments that were deleted are emptied. */
import { purgePage } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import type { Loop } from "./loop.ts";

export function purgeDeletedLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "purge-deleted",
    intervalMs,
    runPage: async (count) => {
      const page = await purgePage(db);
      for (const { runId, workerInstanceId } of page?.cancelledRuns ?? []) {
        bus.publish(`run:${runId}`);
        if (workerInstanceId !== null) bus.publish(`worker:${workerInstanceId}`);
      }
      if (page !== undefined) count(1);
      return page !== undefined;
    },
  };
}
