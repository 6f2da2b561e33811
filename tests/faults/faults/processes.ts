/** A process dies at once, or holds still for longer than others believe in it. */
import type { PartFault } from "../plan.ts";
import type { Breaker } from "./index.ts";

export const kill: Breaker<PartFault> = {
  begin: (cluster, { target }) => cluster.part(target).kill(),
  end: (cluster, { target }) => cluster.part(target).revive(),
};

/** SIGSTOP: its connections stay, and nothing comes over them. */
export const freeze: Breaker<PartFault> = {
  begin: (cluster, { target }) => cluster.part(target).freeze(),
  end: (cluster, { target }) => cluster.part(target).thaw(),
};
