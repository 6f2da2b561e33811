/**
 * F5: a token is completed once. Of several who complete it with different data one is told so and the others are refused,
 * and who waits for it gets that one's data.
 *
 * In the store: tokens K1 and K2, waits V2.
 */
import { groupBy, type Invariant } from "./invariant.ts";

export const tokensOnce: Invariant = {
  number: "F5",
  claim: "tokens are completed once",
  check: ({ seen, tokens, waits, runs }) => {
    const problems: string[] = [];
    const byId = new Map(tokens.map((token) => [token.id, token]));
    for (const [id, answers] of groupBy(seen.completions, ({ tokenId }) => tokenId)) {
      const token = byId.get(id);
      const data = token?.data == null ? undefined : (JSON.parse(token.data) as unknown);
      if (token?.status !== "completed")
        problems.push(`token ${id} was completed, and is ${token?.status ?? "gone"}`);
      for (const { value, status } of answers) {
        if ((status !== "refused") !== (value === data))
          problems.push(
            `token ${id} has ${JSON.stringify(data)}, and ${JSON.stringify(value)} was ${status}`,
          );
      }
      if (answers.filter(({ status }) => status === "completed").length > 1)
        problems.push(`token ${id} was completed twice`);
    }
    const attempts = new Map(runs.map((run) => [run.id, run.attempt_number]));
    for (const wait of waits) {
      if (wait.kind !== "token" || wait.status !== "completed" || wait.token_id === null) continue;
      const data = byId.get(wait.token_id)?.data;
      if (data === undefined || data === null || !sameJson(wait.result, data))
        problems.push(
          `wait ${wait.id} of token ${wait.token_id} got ${wait.result}, and the token has ${data}`,
        );
      if (!attempts.has(wait.run_id)) problems.push(`wait ${wait.id} is of a run that is gone`);
    }
    return problems;
  },
};

function sameJson(one: string | null, other: string): boolean {
  return one !== null && JSON.stringify(JSON.parse(one)) === JSON.stringify(JSON.parse(other));
}
