/** The fire index of many dispatchers: one sorted set in Redis or Valkey, by schedule, scored by time. */
import { type FireIndex, newClaim } from "./fire-index.ts";
import { RedisConnection, type RedisOptions } from "./redis-connection.ts";

const key = "helmr:schedules:fires";

/** Both run as one: nobody else sees the set in between. Numbers stay texts, so that none is rounded. */
const claimScript = `
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do redis.call('ZADD', KEYS[1], ARGV[3], id) end
return ids`;
const settleScript = `
for i = 1, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if score and tonumber(score) == tonumber(ARGV[i + 1]) then
    if ARGV[i + 2] == '' then redis.call('ZREM', KEYS[1], ARGV[i])
    else redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i]) end
  end
end
return 0`;

export function createRedisFireIndex(options: RedisOptions): FireIndex {
  const redis = new RedisConnection(options).open();
  return {
    put: async (entries) => {
      if (entries.length === 0) return;
      const members = entries.map(({ id, dueMs }) => ({ value: id, score: dueMs }));
      await redis.ask((client) => client.zAdd(key, members));
    },
    claim: async ({ nowMs, limit, leaseMs }) => {
      const claim = newClaim(nowMs, leaseMs);
      const args = [nowMs, limit, claim].map(String);
      const ids = await redis.ask((client) => client.eval(claimScript, { keys: [key], arguments: args }));
      return (ids as string[]).map((id) => ({ id, claim }));
    },
    settle: async (entries) => {
      if (entries.length === 0) return;
      const args = entries.flatMap(({ id, claim, nextMs }) => [id, String(claim), String(nextMs ?? "")]);
      await redis.ask((client) => client.eval(settleScript, { keys: [key], arguments: args }));
    },
    close: async () => redis.close(),
  };
}
