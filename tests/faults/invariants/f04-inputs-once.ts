/**
 * F4: every acknowledged input is stored once, and taken by exactly one run of its session. Runs follow until all is taken, but
 * after one that failed without taking any.
 *
 * In the store: waits V5, streams Q2 and Q3; streams read on after what ended runs have taken (../../../packages/store/src/streams/take.ts).
 */
import type { Facts, RunFact } from "../facts.ts";
import { groupBy, type Invariant } from "./invariant.ts";

export const inputsOnce: Invariant = {
  number: "F4",
  claim: "every acknowledged input is consumed once",
  check: (facts) => [...storedOnce(facts), ...takenOnce(facts)],
};

function storedOnce({ seen, records, streams }: Facts): string[] {
  const problems: string[] = [];
  const byId = new Map(records.map((record) => [record.id, record]));
  for (const { recordId, sequence, n, sessionId } of seen.inputs) {
    const record = byId.get(recordId);
    if (record === undefined) problems.push(`session ${sessionId}: input ${n} (${recordId}) is gone`);
    else if (record.sequence !== sequence || (JSON.parse(record.data) as { n: number }).n !== n)
      problems.push(`session ${sessionId}: input ${n} is another record than was acknowledged`);
  }
  for (const stream of streams) {
    const own = records.filter(({ stream_id }) => stream_id === stream.id);
    const wrong = own.findIndex(({ sequence }, index) => sequence !== index + 1);
    if (wrong >= 0 || own.length !== stream.sequence)
      problems.push(
        `stream ${stream.name} of session ${stream.session_id}: ${own.length} records, ${stream.sequence} counted`,
      );
    if (stream.direction !== "input") continue;
    for (const [n, same] of groupBy(own, ({ data }) => String((JSON.parse(data) as { n: number }).n)))
      if (same.length > 1)
        problems.push(`session ${stream.session_id}: input ${n} is stored ${same.length} times`);
  }
  return problems;
}

const byTurn = (one: RunFact, other: RunFact) => one.turn_index - other.turn_index;

/** Of the attempt that counted of each run of the session. */
function takenOnce({ seen, runs, waits, records }: Facts): string[] {
  const problems: string[] = [];
  const runById = new Map(runs.map((run) => [run.id, run]));
  const counted = waits.filter(
    (wait) =>
      wait.kind === "stream" &&
      wait.status === "completed" &&
      runById.get(wait.run_id)?.attempt_number === wait.attempt_number,
  );
  const takers = new Map<string, string[]>();
  for (const wait of counted) {
    const { id } = JSON.parse(wait.result ?? "{}") as { id?: string };
    if (id !== undefined) takers.set(id, [...(takers.get(id) ?? []), wait.run_id]);
  }
  for (const [id, by] of takers)
    if (by.length > 1) problems.push(`input ${id} was taken by ${by.join(" and ")}`);
  for (const { recordId, sessionId, n } of seen.inputs) {
    if (takers.has(recordId)) continue;
    const last = runs
      .filter((run) => run.session_id === sessionId)
      .sort(byTurn)
      .at(-1);
    if (last === undefined || last.session_status !== "open") continue;
    // It took nothing, so that another would neither (streams Q3): the next input, or somebody, starts that.
    if (last.status !== "succeeded" && !counted.some((wait) => wait.run_id === last.id)) continue;
    problems.push(`session ${sessionId}: nobody took input ${n} (${recordId})`);
  }
  for (const run of runs) if (run.status === "succeeded") problems.push(...told(run, counted, records));
  return problems;
}

/** What the task was given is what the database says that it took. */
function told(run: RunFact, counted: Facts["waits"], records: Facts["records"]): string[] {
  if (run.task_id !== "listens") return [];
  const taken = counted
    .filter((wait) => wait.run_id === run.id)
    .map((wait) => (JSON.parse(wait.result ?? "{}") as { id?: string }).id)
    .map((id) => (JSON.parse(records.find((record) => record.id === id)?.data ?? "{}") as { n?: number }).n);
  const heard = JSON.stringify(JSON.parse(run.output ?? "null"));
  return heard === JSON.stringify(taken)
    ? []
    : [`run ${run.id} heard ${heard}, and took ${JSON.stringify(taken)}`];
}
