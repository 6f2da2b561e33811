/** Tokens long past their end, and public access tokens past their expiry, are removed. */
import { sweepPublicAccessTokens, sweepTokens } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

const rowsPerPage = 10 * pageSize;

export function sweepTokensLoop({ db }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "sweep-tokens",
    intervalMs,
    runPage: async () => {
      const removed = [await sweepPublicAccessTokens(db, rowsPerPage), await sweepTokens(db, rowsPerPage)];
      return Math.max(...removed) === rowsPerPage;
    },
  };
}
