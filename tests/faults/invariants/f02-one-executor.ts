/**
 * F2: of the executors of a run never two count.
 *
 *   a  leases come one after the other: what the record holds of a lease lies between its `run_lease.leased` and what ended it
 *   b  fencing numbers grow
 *   c  under one lease one guest wrote, and an attempt that was not resumed elsewhere is one guest's
 *   d  on the session's ledger an attempt's entries are not followed by those of an earlier one
 *
 * In the store: runs I1 and I2. The worker's side is fenced by the same numbers.
 */
import type { EventFact, Facts } from "../facts.ts";
import { eventsByRun, groupBy, type Invariant, type LedgerEntry, ledgerLines } from "./invariant.ts";

export const oneExecutor: Invariant = {
  number: "F2",
  claim: "never two executors that both count",
  check: (facts) => [
    ...[...eventsByRun(facts)].flatMap(([run, events]) => [
      ...leasesOf(run, events),
      ...guestsOf(run, events),
    ]),
    ...attemptsOf(facts),
  ],
};

/** a and b. */
function leasesOf(run: string, events: readonly EventFact[]): string[] {
  const problems: string[] = [];
  const over = new Set<string>();
  let current: string | undefined;
  let fencing = 0;
  for (const { seq, kind, lease, attributes } of events) {
    if (kind === "run_lease.leased") {
      if (lease === null || over.has(lease) || lease === current)
        problems.push(`run ${run} seq ${seq}: lease ${lease} was given twice`);
      if (Number(attributes.fencing) <= fencing)
        problems.push(`run ${run} seq ${seq}: fencing ${attributes.fencing} after ${fencing}`);
      fencing = Number(attributes.fencing);
      if (current !== undefined) over.add(current);
      current = lease ?? undefined;
    } else if (lease !== null && lease !== current) {
      problems.push(`run ${run} seq ${seq}: ${kind} of lease ${lease}, while ${current} counts`);
    }
  }
  return problems;
}

/** c. */
function guestsOf(run: string, events: readonly EventFact[]): string[] {
  const lines = ledgerLines(events);
  const problems: string[] = [];
  for (const [lease, written] of groupBy(lines, (line) => line.lease ?? "none")) {
    const boots = new Set(written.map(({ entry }) => entry.boot));
    if (boots.size > 1) problems.push(`run ${run}: ${boots.size} guests wrote under lease ${lease}`);
  }
  for (const [attempt, written] of groupBy(lines, ({ entry }) => String(entry.attempt))) {
    const boots = new Set(written.map(({ entry }) => entry.boot));
    if (boots.size > 1) problems.push(`run ${run}: attempt ${attempt} was begun by ${boots.size} guests`);
  }
  return problems;
}

/** d. */
function attemptsOf({ records }: Facts): string[] {
  const problems: string[] = [];
  const ledgers = groupBy(
    records.filter(({ name }) => name === "ledger"),
    ({ session_id }) => session_id,
  );
  for (const [session, entries] of ledgers) {
    const latest = new Map<string, number>();
    for (const { sequence, data } of entries) {
      const { run, attempt } = JSON.parse(data) as LedgerEntry;
      if (attempt < (latest.get(run) ?? 0))
        problems.push(
          `session ${session} record ${sequence}: attempt ${attempt} of run ${run} wrote after a later one`,
        );
      latest.set(run, attempt);
    }
  }
  return problems;
}
