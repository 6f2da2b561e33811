/**
 * F3: the events of a run, logs among them, are numbered 1, 2, 3, … without gap or double, and its end is the last of them.
 *
 * In the store: runs I3, I4, I9.
 */
import { eventsByRun, type Invariant, ledgerLines, terminalEvents, terminalStatuses } from "./invariant.ts";

export const eventSequences: Invariant = {
  number: "F3",
  claim: "event sequences have no gap and no double",
  check: (facts) => {
    const byRun = eventsByRun(facts);
    return facts.runs.flatMap((run) => {
      const events = byRun.get(run.id) ?? [];
      const problems: string[] = [];
      const wrong = events.findIndex(({ seq }, index) => seq !== index + 1);
      if (wrong >= 0) problems.push(`run ${run.id}: event ${wrong + 1} has number ${events[wrong]?.seq}`);
      if (events.length !== run.event_seq)
        problems.push(`run ${run.id}: ${events.length} events, and it counts ${run.event_seq}`);
      const ends = events.filter(({ kind }) => terminalEvents.includes(kind)).length;
      const isOver = terminalStatuses.includes(run.status);
      if (ends !== (isOver ? 1 : 0))
        problems.push(`run ${run.id} is ${run.status} with ${ends} terminal events`);
      if (isOver && !terminalEvents.includes(events.at(-1)?.kind ?? ""))
        problems.push(`run ${run.id}: ${events.at(-1)?.kind} comes after its end`);
      return [...problems, ...linesOf(run.id, events)];
    });
  },
};

/** Under one lease a task's lines are told once and in their order: repeated appends have no effect (I9). */
function linesOf(run: string, events: Parameters<typeof ledgerLines>[0]): string[] {
  const last = new Map<string | null, number>();
  const problems: string[] = [];
  for (const { lease, entry } of ledgerLines(events)) {
    const before = last.get(lease);
    if (before !== undefined && entry.step !== before + 1)
      problems.push(`run ${run}: line ${entry.step} follows line ${before} under lease ${lease}`);
    last.set(lease, entry.step);
  }
  return problems;
}
