/** Archived workspaces whose time is over lose their files, page by page. */
import { purgeArchived } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";
import { countPages, type Loop } from "./loop.ts";

export function purgeArchivedLoop({ db }: DispatcherContext, intervalMs: number): Loop {
  return { name: "purge-archived", intervalMs, runPage: countPages(() => purgeArchived(db)) };
}
