/** Leases of workers that are out of touch end: their runs and builds are queued again, or failed. */
import { expireBuildLeases, expireLeases, markGoneWorkers } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";
import { tellWork } from "./work-hints.ts";

export function expireLeasesLoop(context: DispatcherContext, intervalMs: number): Loop {
  const { db, bus, logger } = context;
  return {
    name: "expire-leases",
    intervalMs,
    runPage: async (count) => {
      const goneWorkers = await markGoneWorkers(db);
      for (const workerInstanceId of goneWorkers) logger.warn({ workerInstanceId }, "a worker is gone");
      const runs = await expireLeases(db, { limit: pageSize });
      for (const { runId, requeued } of runs) {
        bus.publish(`run:${runId}`);
        logger.warn({ runId, requeued }, "a run lost its worker");
      }
      const builds = await expireBuildLeases(db, { limit: pageSize });
      for (const { deploymentId, requeued } of builds) {
        bus.publish(`deployment:${deploymentId}`);
        logger.warn({ deploymentId, requeued }, "a build lost its worker");
      }
      // Also for those not queued again: a place in a lane, or a workspace, is free.
      tellWork(bus, [...runs, ...builds]);
      count(goneWorkers.length + runs.length + builds.length);
      return runs.length === pageSize || builds.length === pageSize;
    },
  };
}
