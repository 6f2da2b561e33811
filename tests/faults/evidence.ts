/** What is kept of a run that violated something: the plan, the logs of all processes, the database's rows. */
import { cp, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Facts } from "./facts.ts";
import type { Violation } from "./invariants/index.ts";
import type { Journal } from "./journal.ts";
import type { Plan } from "./plan.ts";

export interface Evidence {
  readonly plan: Plan;
  readonly violations: readonly Violation[];
  readonly journal: Journal;
  readonly logsDir: string;
  readonly facts: Facts | undefined;
}

/** The folder it lies in. */
export async function keepEvidence(evidence: Evidence): Promise<string> {
  const { plan, violations, journal, logsDir, facts } = evidence;
  // The folder of a run of all tests goes at its end.
  const { HELMR_TEST_ROOT: testRoot } = process.env;
  const place = testRoot === undefined ? tmpdir() : dirname(testRoot);
  const dir = await mkdtemp(join(place, "helmr-faults-evidence-"));
  const write = (name: string, text: string) => writeFile(join(dir, name), `${text}\n`);
  await write("plan.json", JSON.stringify(plan, null, 2));
  await write("violations.txt", violations.map(({ number, text }) => `${number} ${text}`).join("\n"));
  await write("journal.txt", journal.lines.join("\n"));
  await cp(logsDir, join(dir, "logs"), { recursive: true }).catch(() => undefined);
  if (facts === undefined) return dir;
  await write("facts.json", JSON.stringify(facts, null, 1));
  await mkdir(join(dir, "runs"));
  const texts = violations.map(({ text }) => text).join("\n");
  for (const run of facts.runs.filter(
    ({ id, session_id }) => texts.includes(id) || texts.includes(session_id),
  )) {
    await write(
      join("runs", `${run.id}.json`),
      JSON.stringify(rowsOf(facts, run.id, run.session_id), null, 1),
    );
  }
  return dir;
}

function rowsOf(facts: Facts, runId: string, sessionId: string) {
  const waits = facts.waits.filter(({ run_id }) => run_id === runId);
  const tokens = new Set(waits.map(({ token_id }) => token_id));
  return {
    run: facts.runs.find(({ id }) => id === runId),
    events: facts.events.filter(({ run_id }) => run_id === runId),
    waits,
    streams: facts.streams.filter(({ session_id }) => session_id === sessionId),
    records: facts.records.filter(({ session_id }) => session_id === sessionId),
    tokens: facts.tokens.filter(({ id }) => tokens.has(id)),
    starts: facts.seen.starts.filter((start) => start.runId === runId),
  };
}
