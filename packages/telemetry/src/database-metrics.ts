/** The connections of a process to PostgreSQL. */
import { define } from "./define.ts";
import type { MetricsRegistry } from "./registry.ts";

export interface PoolState {
  readonly open: number;
  readonly idle: number;
  /** Who waits for a free connection. */
  readonly waiting: number;
  readonly max: number;
}

export function watchDatabase(registry: MetricsRegistry, pool: () => PoolState): void {
  const { asked } = define(registry);
  asked(
    "helmr_database_connections_in_use",
    "Connections of this process that a query or transaction has",
    () => pool().open - pool().idle,
  );
  asked("helmr_database_connections_idle", "Open connections that nobody uses", () => pool().idle);
  asked("helmr_database_connections_max", "Connections that this process may open", () => pool().max);
  asked(
    "helmr_database_waiting",
    "Queries and transactions that wait for a connection",
    () => pool().waiting,
  );
}
