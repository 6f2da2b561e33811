/** Sessions that ended long ago go, with their runs and streams; those that schedules started are closed before. */
import { closeScheduledSessions, removeSessions } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import { countPages, type Loop } from "./loop.ts";

export function closeScheduledLoop(
  { db }: DispatcherContext,
  { intervalMs, idleMs }: { readonly intervalMs: number; readonly idleMs: number },
): Loop {
  return {
    name: "close-scheduled",
    intervalMs,
    runPage: async (count) => {
      const closed = await closeScheduledSessions(db, { limit: pageSize, idleMs });
      count(closed);
      return closed === pageSize;
    },
  };
}

export function removeSessionsLoop(
  { db }: DispatcherContext,
  { intervalMs, keepMs }: { readonly intervalMs: number; readonly keepMs: number },
): Loop {
  return { name: "remove-sessions", intervalMs, runPage: countPages(() => removeSessions(db, { keepMs })) };
}
