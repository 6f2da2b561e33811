/** Runs that no living worker can restore say so in their events. */
import { noteUnresumable } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

/** A worker that restarts is back by then. */
const afterMs = 15_000;

export function noteUnresumableLoop({ db, bus }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "note-unresumable",
    intervalMs,
    runPage: async (count) => {
      const runs = await noteUnresumable(db, { limit: pageSize, afterMs });
      for (const { runId } of runs) bus.publish(`run:${runId}`);
      count(runs.length);
      return runs.length === pageSize;
    },
  };
}
