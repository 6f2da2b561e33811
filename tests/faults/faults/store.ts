/** The object store fails or is slow. A folder can only be full; a server behind a line can be anything. */
import type { Breaker } from "./index.ts";

/** Every write fails (ENOSPC), reads go on. */
export const storeFull: Breaker = {
  begin: (cluster) => cluster.store.fill(),
  end: (cluster) => cluster.store.empty(),
};

export const storeSlow: Breaker = {
  begin: () => {
    throw new Error("a folder cannot be slow: plan it with an S3 server");
  },
  end: () => undefined,
};
