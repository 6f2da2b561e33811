/**
 * What must be true of a run of the harness, by number. Each file says which invariants of the store it is the outside of.
 */
import type { Facts } from "../facts.ts";
import { noRunLost } from "./f01-no-run-lost.ts";
import { oneExecutor } from "./f02-one-executor.ts";
import { eventSequences } from "./f03-event-sequences.ts";
import { inputsOnce } from "./f04-inputs-once.ts";
import { tokensOnce } from "./f05-tokens-once.ts";
import { slotsOnce } from "./f06-slots-once.ts";
import { limitsKept } from "./f07-limits.ts";
import { nothingLeft } from "./f08-nothing-left.ts";
import { acknowledgedStarts } from "./f09-acknowledged-starts.ts";
import { followersSawAll } from "./f10-followers.ts";
import { cancelsWin } from "./f11-cancels.ts";
import { noOwnEnd } from "./f12-no-own-end.ts";
import { savedFiles } from "./f13-saved-files.ts";
import type { Invariant } from "./invariant.ts";

export const invariants: readonly Invariant[] = [
  noRunLost,
  oneExecutor,
  eventSequences,
  inputsOnce,
  tokensOnce,
  slotsOnce,
  limitsKept,
  nothingLeft,
  acknowledgedStarts,
  followersSawAll,
  cancelsWin,
  noOwnEnd,
  savedFiles,
];

export interface Violation {
  readonly number: string;
  readonly text: string;
}

export function checkAll(facts: Facts): Violation[] {
  return invariants.flatMap(({ number, check }) => check(facts).map((text) => ({ number, text })));
}
