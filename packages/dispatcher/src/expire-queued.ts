/** Queued runs whose ttl is over become `expired`. */
import { expireQueuedRuns } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

export function expireQueuedLoop({ db, bus, logger }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "expire-queued",
    intervalMs,
    runPage: async (count) => {
      const runs = await expireQueuedRuns(db, pageSize);
      for (const { runId } of runs) {
        bus.publish(`run:${runId}`);
        logger.info({ runId }, "a queued run expired");
      }
      count(runs.length);
      return runs.length === pageSize;
    },
  };
}
