/** F12: no process of Helmr ends because of what others suffer; requests have answers that the faults explain. */
import type { Invariant } from "./invariant.ts";

export const noOwnEnd: Invariant = {
  number: "F12",
  claim: "no process ends by itself, and no answer is a riddle",
  check: ({ ownEnds, seen }) => [...ownEnds, ...seen.problems],
};
