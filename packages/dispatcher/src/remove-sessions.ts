/** Sessions that ended long ago go, with their runs and streams; those that schedules started are closed before. */
import { closeScheduledSessions, removeSessions } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

export function closeScheduledLoop(
  { db }: DispatcherContext,
  { intervalMs, idleMs }: { readonly intervalMs: number; readonly idleMs: number },
): Loop {
  return {
    name: "close-scheduled",
    intervalMs,
    runPage: async () => (await closeScheduledSessions(db, { limit: pageSize, idleMs })) === pageSize,
  };
}

export function removeSessionsLoop(
  { db }: DispatcherContext,
  { intervalMs, keepMs }: { readonly intervalMs: number; readonly keepMs: number },
): Loop {
  return { name: "remove-sessions", intervalMs, runPage: () => removeSessions(db, { keepMs }) };
}
