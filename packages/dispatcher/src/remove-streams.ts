/** What commands and terminals wrote is removed long after their end. */
import { removeOldStreams } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import { countPages, type Loop } from "./loop.ts";

export function removeStreamsLoop(
  { db }: DispatcherContext,
  { intervalMs, keepMs }: { readonly intervalMs: number; readonly keepMs: number },
): Loop {
  return {
    name: "remove-streams",
    intervalMs,
    runPage: countPages(() => removeOldStreams(db, { limit: pageSize, keepMs })),
  };
}
