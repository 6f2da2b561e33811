/** Open sessions past their expires_at become `expired`; their current runs are cancelled. */
import { expireSessions } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

export function expireSessionsLoop({ db, bus, logger }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "expire-sessions",
    intervalMs,
    runPage: async (count) => {
      const { expired, cancelledRuns } = await expireSessions(db, pageSize);
      if (expired > 0) logger.info({ expired }, "sessions expired");
      for (const { runId, workerInstanceId } of cancelledRuns) {
        bus.publish(`run:${runId}`);
        if (workerInstanceId !== null) bus.publish(`worker:${workerInstanceId}`);
      }
      count(expired);
      return expired === pageSize;
    },
  };
}
