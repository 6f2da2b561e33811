/**
 * F9: an acknowledged start is there, and a key is one session, however often and to however many control planes it was sent.
 *
 * In the store: idempotency keys; sessions and their first run come in one transaction.
 */
import { groupBy, type Invariant } from "./invariant.ts";

export const acknowledgedStarts: Invariant = {
  number: "F9",
  claim: "acknowledged starts exist, and a key is one session",
  check: ({ runs, seen }) => {
    const problems: string[] = [];
    const byId = new Map(runs.map((run) => [run.id, run]));
    for (const { key, runId, sessionId } of seen.starts) {
      const run = byId.get(runId);
      if (run === undefined) problems.push(`start ${key}: run ${runId} is gone`);
      else if (run.session_id !== sessionId)
        problems.push(`start ${key}: run ${runId} is of session ${run.session_id}`);
    }
    for (const [key, answers] of groupBy(seen.starts, (start) => start.key)) {
      const sessions = new Set(answers.map(({ sessionId }) => sessionId));
      if (sessions.size > 1) problems.push(`start ${key} gave sessions ${[...sessions].join(", ")}`);
    }
    const keyed = runs.filter((run) => run.schedule_id === null);
    for (const [key, same] of groupBy(keyed, (run) => (JSON.parse(run.payload) as { op: string }).op)) {
      const sessions = new Set(same.map(({ session_id }) => session_id));
      if (sessions.size > 1) problems.push(`start ${key} made sessions ${[...sessions].join(", ")}`);
    }
    return problems;
  },
};
