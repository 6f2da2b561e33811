/** The shape of an invariant, and what several of them need. */
import type { EventFact, Facts } from "../facts.ts";

export interface Invariant {
  /** F1, F2, … */
  readonly number: string;
  readonly claim: string;
  /** One text per violation, with the ids that it is about. */
  check(facts: Facts): string[];
}

export function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

export function eventsByRun({ events }: Facts): Map<string, EventFact[]> {
  return groupBy(events, (event) => event.run_id);
}

export const terminalStatuses: readonly string[] = ["succeeded", "failed", "cancelled", "expired"];
export const terminalEvents: readonly string[] = [
  "run.completed",
  "run.failed",
  "run.cancelled",
  "run.expired",
];

/** An entry of a task's ledger (../project/ledger.ts). */
export interface LedgerEntry {
  readonly run: string;
  readonly attempt: number;
  readonly boot: string;
  readonly step: number;
  readonly [what: string]: unknown;
}

/** The entries on a run's stdout, with the lease that wrote each. A chunk may hold several lines, and pieces of some. */
export function ledgerLines(
  events: readonly EventFact[],
): { readonly lease: string | null; readonly entry: LedgerEntry }[] {
  const found: { lease: string | null; entry: LedgerEntry }[] = [];
  let rest = "";
  let lease: string | null = null;
  for (const event of events) {
    if (event.kind !== "log.stdout") continue;
    // What a dead lease left unfinished is no beginning of the next one's line.
    if (event.lease !== lease) rest = "";
    lease = event.lease;
    const lines = (rest + event.text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const entry = parsed(line);
      if (entry !== undefined) found.push({ lease, entry });
    }
  }
  return found;
}

function parsed(line: string): LedgerEntry | undefined {
  try {
    const value = JSON.parse(line) as LedgerEntry;
    return typeof value.boot === "string" ? value : undefined;
  } catch {
    return undefined;
  }
}
