/**
 * F10: who followed a run's events, or read on a stream, saw what the database has: all of it, each once, in its order.
 *
 * In the store: runs I3; sequences of streams are given in the transaction that writes the record.
 */
import type { Facts } from "../facts.ts";
import { eventsByRun, groupBy, type Invariant, terminalEvents } from "./invariant.ts";

/** What the SDK shows of a run's events (contract 6.1). */
const shown = new Set([
  "log.stdout",
  "log.stderr",
  "run_wait.created",
  "run_wait.completed",
  "run_wait.timed_out",
  ...terminalEvents,
]);

export const followersSawAll: Invariant = {
  number: "F10",
  claim: "what followers saw is what is recorded",
  check: (facts) => [...follows(facts), ...readings(facts)],
};

function follows(facts: Facts): string[] {
  const byRun = eventsByRun(facts);
  return facts.seen.follows.flatMap(({ runId, cursors, complete }) => {
    const seqs = (byRun.get(runId) ?? []).filter(({ kind }) => shown.has(kind)).map(({ seq }) => seq);
    const expected = complete ? seqs : seqs.slice(0, cursors.length);
    const wrong = expected.findIndex((seq, index) => seq !== cursors[index]);
    if (wrong < 0 && cursors.length === expected.length) return [];
    return [
      `run ${runId}: a follower saw ${cursors.length} events of ${seqs.length}; the first that differs: ${cursors[wrong]}, recorded ${expected[wrong]}`,
    ];
  });
}

function readings({ seen, records }: Facts): string[] {
  const ledgers = groupBy(
    records.filter(({ name }) => name === "ledger"),
    ({ session_id }) => session_id,
  );
  return seen.readings.flatMap(({ sessionId, records: read }) => {
    const stored = ledgers.get(sessionId) ?? [];
    const wrong = read.findIndex(
      ({ sequence, id, data }, index) =>
        stored[index]?.sequence !== sequence ||
        stored[index]?.id !== id ||
        !sameJson(stored[index]?.data, data),
    );
    return wrong < 0 ? [] : [`session ${sessionId}: a reader's record ${wrong + 1} is not what is stored`];
  });
}

function sameJson(one: string | undefined, other: string): boolean {
  return one !== undefined && JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
}
