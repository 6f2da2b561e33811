/** Waits whose time has come end: timers are complete, the others have timed out. Workers do it for the runs they hold. */
import { expireWaits } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";
import { tellWork } from "./work-hints.ts";

export function expireWaitsLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "expire-waits",
    intervalMs,
    runPage: async (count) => {
      const waits = await expireWaits(db, { limit: pageSize });
      for (const { runId, workerInstanceId } of waits) {
        bus.publish(`run:${runId}`);
        if (workerInstanceId !== null) bus.publish(`waits:${workerInstanceId}`);
      }
      tellWork(
        bus,
        waits.filter((wait) => wait.workerInstanceId === null),
      );
      count(waits.length);
      return waits.length === pageSize;
    },
  };
}
