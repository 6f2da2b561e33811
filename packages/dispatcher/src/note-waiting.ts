/** Queued runs that no worker of their group takes say why in their events. */
import { noteWaitingForCapacity } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

/** A worker that restarts is back by then. */
const afterMs = 15_000;
/** Busy workers are no news for a while. */
const busyAfterMs = 60_000;

export function noteWaitingLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "note-waiting",
    intervalMs,
    runPage: async (count) => {
      const runs = await noteWaitingForCapacity(db, { limit: pageSize, afterMs, busyAfterMs });
      for (const { runId } of runs) bus.publish(`run:${runId}`);
      count(runs.length);
      return runs.length >= pageSize;
    },
  };
}
