/** Checkpoints and sources that nothing refers to any more are removed from the artifact store. */
import { removeDiscardedArtifacts } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import type { Loop } from "./loop.ts";

/** Each may be a file of a gibibyte, or a request to an object store. */
const artifactsPerPage = 10;

export function removeArtifactsLoop(
  { db, artifacts }: DispatcherContext,
  intervalMs: number,
  graceMs: number,
): Loop {
  return {
    name: "remove-artifacts",
    intervalMs,
    runPage: async (count) => {
      const remove = (digest: string) => artifacts.delete(digest);
      const removed = await removeDiscardedArtifacts(db, { limit: artifactsPerPage, graceMs, remove });
      count(removed);
      return removed === artifactsPerPage;
    },
  };
}
