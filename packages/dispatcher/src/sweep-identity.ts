/** Device codes, magic links, sign-ins under way and user sessions whose time is over are removed. */
import { sweepIdentity } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

const rowsPerPage = 10 * pageSize;

export function sweepIdentityLoop({ db }: DispatcherContext, intervalMs: number): Loop {
  return {
    name: "sweep-identity",
    intervalMs,
    runPage: async (count) => {
      const removed = await sweepIdentity(db, rowsPerPage);
      count(removed);
      return removed === rowsPerPage;
    },
  };
}
