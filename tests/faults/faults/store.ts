/** The object store fails or is slow. A folder can only be full; a server behind lines can be slow, or nobody. */
import type { Cluster } from "../cluster.ts";
import type { LineState } from "../line.ts";
import { lines } from "../plan.ts";
import type { Breaker } from "./index.ts";

/** Every write fails (ENOSPC), reads go on. */
export const storeFull: Breaker = {
  begin: (cluster) => cluster.store.fill(),
  end: (cluster) => cluster.store.empty(),
};

export const storeSlow = throughLines("slow");
export const storeDown = throughLines("refused");

function throughLines(state: LineState): Breaker {
  return {
    begin: (cluster) => {
      if (cluster.store.port === undefined) throw new Error("no line leads to a folder: plan it with S3");
      setAll(cluster, state);
    },
    end: (cluster) => setAll(cluster, "open"),
  };
}

function setAll(cluster: Cluster, state: LineState): void {
  for (const name of lines) if (name.endsWith(">store")) cluster.line(name).state = state;
}
