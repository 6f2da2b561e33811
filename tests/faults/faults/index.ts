/** What breaks what: one file per family, each with how it begins and how it is over. */
import type { Cluster } from "../cluster.ts";
import type { Fault, FaultKind } from "../plan.ts";
import { clockStep } from "./clock.ts";
import { cut, refuse, silence } from "./lines.ts";
import { freeze, kill } from "./processes.ts";
import { postgresDown, redisFlush, redisKill } from "./servers.ts";
import { storeDown, storeFull, storeSlow } from "./store.ts";

export interface Breaker<F extends Fault = Fault> {
  begin(cluster: Cluster, fault: F): Promise<void> | void;
  /** Called also when `begin` failed, and once. */
  end(cluster: Cluster, fault: F): Promise<void> | void;
}

/** Each is handed faults of its own kind only. */
export const breakers: Readonly<Record<FaultKind, Breaker>> = {
  kill,
  freeze,
  cut,
  refuse,
  silence,
  "store-full": storeFull,
  "store-slow": storeSlow,
  "store-down": storeDown,
  "redis-flush": redisFlush,
  "redis-kill": redisKill,
  "postgres-fast": postgresDown("fast"),
  "postgres-immediate": postgresDown("immediate"),
  "clock-step": clockStep,
};
