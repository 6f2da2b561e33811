/** PostgreSQL restarts, Redis forgets everything or is gone for a while. */
import type { Breaker } from "./index.ts";

export function postgresDown(mode: "fast" | "immediate"): Breaker {
  return {
    begin: (cluster) => cluster.postgres.down(mode),
    end: (cluster) => cluster.postgres.up(),
  };
}

export const redisFlush: Breaker = {
  begin: (cluster) => cluster.redis.flush(),
  end: () => undefined,
};

export const redisKill: Breaker = {
  begin: (cluster) => cluster.redis.down(),
  end: (cluster) => cluster.redis.up(),
};
