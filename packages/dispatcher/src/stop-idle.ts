/** Live copies that nobody uses are stopped; runs that wait for one that somebody uses say so. */
import { noteWaitingForWorkspace, planIdleStops, stopIdle } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";
import { tellEnded } from "./workspace-hints.ts";

/** A copy that nobody uses is given up at once: what waits longer waits for somebody. */
const noteAfterMs = 2_000;

export function stopIdleLoop(
  { db, bus }: DispatcherContext,
  { intervalMs, idleStopMs }: { readonly intervalMs: number; readonly idleStopMs: number },
): Loop {
  return {
    name: "stop-idle",
    intervalMs,
    runPage: async (count) => {
      const stopped = await stopIdle(db, pageSize);
      for (const { materialization, ended } of stopped) {
        tellEnded(bus, ended);
        const worker = materialization?.worker_instance_id;
        if (worker != null) bus.publish(`workspaces:${worker}`);
      }
      const planned = await planIdleStops(db, { limit: pageSize, idleStopMs });
      const noted = await noteWaitingForWorkspace(db, { limit: pageSize, afterMs: noteAfterMs });
      for (const { runId } of noted) bus.publish(`run:${runId}`);
      count(stopped.length + planned + noted.length);
      return stopped.length === pageSize || planned === pageSize || noted.length === pageSize;
    },
  };
}
