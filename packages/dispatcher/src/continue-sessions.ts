/** Sessions whose run ended without taking the input that had come get their next run. */
import { continueSessions } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";
import { tellWork } from "./work-hints.ts";

export function continueSessionsLoop({ db, bus, logger }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "continue-sessions",
    intervalMs,
    runPage: async (count) => {
      const continued = await continueSessions(db, { limit: pageSize });
      count(continued.length);
      if (continued.length === 0) return false;
      logger.info({ continued: continued.length }, "sessions go on with their input");
      tellWork(
        bus,
        continued.map((workerGroupId) => ({ workerGroupId })),
      );
      return continued.length === pageSize;
    },
  };
}
