/** F11: a cancel that was acknowledged before its run had ended wins. In the store: runs I7. */
import type { Invariant } from "./invariant.ts";

export const cancelsWin: Invariant = {
  number: "F11",
  claim: "an acknowledged cancel wins",
  check: ({ runs, seen }) =>
    seen.cancels.flatMap(({ runId, wasTerminal }) => {
      const run = runs.find(({ id }) => id === runId);
      if (run === undefined) return [`run ${runId} was cancelled, and is gone`];
      return wasTerminal || run.status === "cancelled"
        ? []
        : [`run ${runId} was cancelled, and is ${run.status}`];
    }),
};
