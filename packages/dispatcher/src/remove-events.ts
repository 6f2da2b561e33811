/** Events and logs of what ended long ago: of runs, and of the builds of deployments. */
import { removeDeploymentEvents, removeRunEvents } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import { countPages, type Loop } from "./loop.ts";

export function removeEventsLoop(
  { db }: DispatcherContext,
  { intervalMs, keepMs }: { readonly intervalMs: number; readonly keepMs: number },
): Loop {
  return {
    name: "remove-events",
    intervalMs,
    runPage: countPages(async () => {
      const page = { limit: pageSize, keepMs };
      const isMore = [await removeRunEvents(db, page), await removeDeploymentEvents(db, page)];
      return isMore.includes(true);
    }),
  };
}
