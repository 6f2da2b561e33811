/** Sessions whose run ended without taking the input that had come get their next run. */
import { continueSessions } from "@helmr/store";
import { type DispatcherContext, pageSize, workTopic } from "./context.ts";
import type { Loop } from "./loop.ts";

export function continueSessionsLoop({ db, bus, logger }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "continue-sessions",
    intervalMs,
    runPage: async (count) => {
      const continued = await continueSessions(db, { limit: pageSize });
      count(continued);
      if (continued === 0) return false;
      logger.info({ continued }, "sessions go on with their input");
      bus.publish(workTopic);
      return continued === pageSize;
    },
  };
}
