/** Tokens long past their end, and public access tokens past their expiry, are removed. */
import { sweepPublicAccessTokens, sweepTokens } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

const rowsPerPage = 10 * pageSize;

export function sweepTokensLoop({ db }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "sweep-tokens",
    intervalMs,
    runPage: async (count) => {
      const removed = [
        await sweepPublicAccessTokens(db, rowsPerPage),
        await sweepTokens(db, rowsPerPage),
      ] as const;
      count(removed[0] + removed[1]);
      return Math.max(...removed) === rowsPerPage;
    },
  };
}
