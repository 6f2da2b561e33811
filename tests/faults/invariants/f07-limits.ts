/**
 * F7: of a lane (queue and concurrency key) never more runs hold a lease than its limit: as often as the driver looked, and in the
 * record of leases.
 *
 * In the store: runs I6. The record's times are those of the transactions' beginnings, so that a claim which waited for the
 * queue's row seems to begin before the end that it waited for: less than `slackMs` is no overlap.
 */
import type { EventFact, Facts } from "../facts.ts";
import { eventsByRun, type Invariant } from "./invariant.ts";

const slackMs = 2_000;
const endKinds = new Set([
  "run.parked",
  "run.completed",
  "run.failed",
  "run.cancelled",
  "run.retry_scheduled",
  "run_lease.lost_requeued",
  "run_lease.abandoned_requeued",
  "run_lease.lost_failed",
]);

export const limitsKept: Invariant = {
  number: "F7",
  claim: "concurrency limits are never exceeded",
  check: (facts) => [
    ...facts.seen.samples
      .filter(({ leased, limit }) => leased > limit)
      .map(({ lane, leased, limit }) => `lane ${lane}: ${leased} runs held a lease, of at most ${limit}`),
    ...recorded(facts),
  ],
};

function recorded(facts: Facts): string[] {
  const byRun = eventsByRun(facts);
  const changes = new Map<string, { at: number; by: 1 | -1; run: string }[]>();
  for (const run of facts.runs) {
    if (!facts.limits.some(({ queue }) => queue === run.queue_name)) continue;
    const lane = `${run.queue_name} ${run.concurrency_key ?? ""}`;
    for (const [from, to] of held(byRun.get(run.id) ?? [], facts.now)) {
      if (to - from <= 2 * slackMs) continue;
      const list = changes.get(lane) ?? [];
      list.push({ at: from + slackMs, by: 1, run: run.id }, { at: to - slackMs, by: -1, run: run.id });
      changes.set(lane, list);
    }
  }
  const problems: string[] = [];
  for (const [name, list] of changes) {
    const limit =
      facts.limits.find(({ queue }) => name.startsWith(`${queue} `))?.limit ?? Number.POSITIVE_INFINITY;
    let count = 0;
    for (const { at, by, run } of list.sort((one, other) => one.at - other.at || one.by - other.by)) {
      count += by;
      if (count > limit && by === 1)
        problems.push(`lane ${name}: run ${run} makes ${count} of ${limit} at ${new Date(at).toISOString()}`);
    }
  }
  return problems;
}

/** From and to of its leases. */
function held(events: readonly EventFact[], now: number): [number, number][] {
  const spans: [number, number][] = [];
  let from: number | undefined;
  for (const { kind, at } of events) {
    if (kind === "run_lease.leased") from = at;
    else if (endKinds.has(kind) && from !== undefined) {
      spans.push([from, at]);
      from = undefined;
    }
  }
  if (from !== undefined) spans.push([from, now]);
  return spans;
}
