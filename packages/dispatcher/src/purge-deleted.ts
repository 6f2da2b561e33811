/** Projects and environments that were deleted are emptied; sources that no deployment has any more go after them. */
import { purgePage, removeUnreferencedSources } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import type { Loop } from "./loop.ts";

/** Each may be a file of 128 MiB, or a request to an object store. */
const sourcesPerPage = 10;

export function purgeDeletedLoop(context: DispatcherContext, intervalMs: number): Loop {
  const { db, bus, artifacts } = context;
  return {
    name: "purge-deleted",
    intervalMs,
    runPage: async () => {
      const page = await purgePage(db);
      for (const { runId, workerInstanceId } of page?.cancelledRuns ?? []) {
        bus.publish(`run:${runId}`);
        if (workerInstanceId !== null) bus.publish(`worker:${workerInstanceId}`);
      }
      if (page !== undefined) return true;
      const removed = await removeUnreferencedSources(db, sourcesPerPage, (digest) =>
        artifacts.delete(digest),
      );
      return removed === sourcesPerPage;
    },
  };
}
