/**
 * F13: files of which somebody was told that they are saved are there, and a run finds what the runs before it left in its
 * workspace, unless one of them says that changes were lost.
 *
 * In the store: workspaces W1 to W4.
 */
import { eventsByRun, groupBy, type Invariant } from "./invariant.ts";

export const savedFiles: Invariant = {
  number: "F13",
  claim: "what was said to be saved is there",
  check: (facts) => {
    const problems = facts.seen.readBacks
      .filter(({ content, found }) => content !== found)
      .map(
        ({ workspaceId, versionId, path, found }) =>
          `workspace ${workspaceId} version ${versionId} ${path}: ${found}`,
      );
    if (facts.seen.readBacks.length !== facts.seen.files.length) problems.push("files were not read back");
    const byRun = eventsByRun(facts);
    const counting = facts.runs.filter(({ task_id }) => task_id === "counts");
    for (const [workspace, runs] of groupBy(counting, ({ workspace_id }) => workspace_id)) {
      const wasLost = runs.some((run) =>
        (byRun.get(run.id) ?? []).some(({ kind }) => kind === "run.workspace_changes_lost"),
      );
      let before = 0;
      for (const run of runs) {
        if (run.status !== "succeeded") continue;
        const count = Number(run.output);
        if (count <= before && !wasLost)
          problems.push(`workspace ${workspace}: run ${run.id} counted ${count} after ${before}`);
        before = count;
      }
    }
    return problems;
  },
};
