/** Live copies of workspaces whose worker is silent, whose run let go, or that nobody takes, end; questions nobody waits for go. */
import { attachRequested, expireMaterializations, expireRequests } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";
import { tellAttached, tellEnded } from "./workspace-hints.ts";

export function expireCopiesLoop(
  { db, bus, logger }: DispatcherContext,
  { intervalMs, lostAfterMs }: { readonly intervalMs: number; readonly lostAfterMs: number },
): Loop {
  return {
    name: "expire-copies",
    intervalMs,
    runPage: async (count) => {
      const ended = await expireMaterializations(db, { limit: pageSize, lostAfterMs });
      for (const copy of ended) {
        tellEnded(bus, copy);
        const { workspaceId, materializationId, workerInstanceId, state } = copy;
        if (state !== "stopped")
          logger.warn({ workspaceId, materializationId, workerInstanceId, state }, "a live copy ended");
      }
      const attached = await attachRequested(db, pageSize);
      for (const copy of attached) tellAttached(bus, copy);
      const forgotten = await expireRequests(db, pageSize);
      count(ended.length + attached.length + forgotten);
      return ended.length === pageSize || attached.length === pageSize || forgotten === pageSize;
    },
  };
}
