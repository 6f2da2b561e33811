/** Runs with what they wait for (contract 2.2 `pending_wait`): looked up only for those that are waiting. */
import type { Run } from "@helmr/api";
import { type Database, pendingWaits, type RunRow } from "@helmr/store";
import { presentRun } from "../present/run.ts";

export async function presentRuns(db: Database, runs: readonly RunRow[]): Promise<Run[]> {
  const waiting = runs.filter(({ status }) => status === "waiting").map(({ id }) => id);
  const waits = await pendingWaits(db, waiting);
  return runs.map((run) => presentRun(run, waits.get(run.id)));
}

export async function presentRunNow(db: Database, run: RunRow): Promise<Run> {
  const waits = run.status === "waiting" ? await pendingWaits(db, [run.id]) : undefined;
  return presentRun(run, waits?.get(run.id));
}
