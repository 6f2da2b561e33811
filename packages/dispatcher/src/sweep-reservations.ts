/** What was reserved in the artifact store for a lease that is over, and never referred to, is given back. */
import { sweepReservations } from "@helmr/store";
import { type DispatcherContext, pageSize } from "./context.ts";
import type { Loop } from "./loop.ts";

const rowsPerPage = 10 * pageSize;

/** `keepMs`: younger ones stay, because only the control plane that serves an upload or a download knows its lease. */
export function sweepReservationsLoop(
  { db }: DispatcherContext,
  { intervalMs, keepMs }: { readonly intervalMs: number; readonly keepMs: number },
): Loop {
  return {
    name: "sweep-reservations",
    intervalMs,
    runPage: async (count) => {
      const gone = await sweepReservations(db, { limit: rowsPerPage, olderThanMs: keepMs });
      count(gone);
      return gone === rowsPerPage;
    },
  };
}
