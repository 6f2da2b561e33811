/** Idempotency keys whose time is over are forgotten. */
import { sweepIdempotencyKeys } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

const keysPerPage = 10 * pageSize;

export function sweepKeysLoop({ db }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "sweep-keys",
    intervalMs,
    runPage: async (count) => {
      const removed = await sweepIdempotencyKeys(db, keysPerPage);
      count(removed);
      return removed === keysPerPage;
    },
  };
}
