/**
 * F1: every run that was started has ended, or waits for something that is not there yet.
 *
 * In the store: runs I1 (a lease exactly while it is running), waits V1 and V4 (a waiting run has its pending wait, a parked one
 * its checkpoint), runs I4 (one end).
 */
import { type Invariant, terminalStatuses } from "./invariant.ts";

export const noRunLost: Invariant = {
  number: "F1",
  claim: "no run is lost or stuck",
  check: ({ runs, waits, streams, tokens }) =>
    runs.flatMap((run) => {
      const what = `run ${run.id} (${run.task_id}) is ${run.status}/${run.execution_status}`;
      if (terminalStatuses.includes(run.status)) {
        if (run.lease_id !== null) return [`${what} and has a lease`];
        return run.status === "failed" ? failureOf(what, run.failure_kind, run.failure_detail) : [];
      }
      if (run.status !== "waiting") return [what];
      const pending = waits.filter((wait) => wait.run_id === run.id && wait.status === "pending");
      const [wait, ...more] = pending;
      if (wait === undefined || more.length > 0) return [`${what} with ${pending.length} pending waits`];
      if (wait.due) return [`${what}: its ${wait.kind} wait ${wait.id} is overdue`];
      const token = tokens.find(({ id }) => id === wait.token_id);
      if (wait.kind === "token" && token?.status !== "pending")
        return [`${what}, and its token ${wait.token_id} is ${token?.status ?? "gone"}`];
      const stream = streams.find(({ id }) => id === wait.stream_id);
      if (
        wait.kind === "stream" &&
        (stream?.sequence ?? 0) > takenOf(waits, run.id, wait.stream_id, stream?.committed ?? 0)
      )
        return [`${what}, and its stream ${wait.stream_id} has records that nobody took`];
      return [];
    }),
};

/** The last record of the stream that a run has, or found taken. */
function takenOf(
  waits: Parameters<Invariant["check"]>[0]["waits"],
  runId: string,
  streamId: string | null,
  committed: number,
): number {
  const taken = waits
    .filter((wait) => wait.run_id === runId && wait.stream_id === streamId && wait.result !== null)
    .map((wait) => (JSON.parse(wait.result ?? "{}") as { sequence?: number }).sequence ?? 0);
  return Math.max(committed, ...taken);
}

/** Workers that die take a run with them after the third time: that is told as such. All else would be ours. */
function failureOf(what: string, kind: string | null, detail: unknown): string[] {
  return kind === "worker_lease_expired" ? [] : [`${what} as ${kind}: ${JSON.stringify(detail)}`];
}
