/**
 * Who calls: the API key of the request, found by its hash.
 *
 * A found key is remembered for one second, so that a revocation counts everywhere within a second and a busy client
 * costs one query a second. Unknown keys are not remembered.
 */
import { ApiError } from "@helmr/api";
import { type ApiKeyGrant, type Database, findApiKey, touchApiKeys } from "@helmr/store";
import type { Logger } from "pino";

const cacheMs = 1000;
const maxCached = 10_000;
const touchIntervalMs = 15_000;

export interface ApiKeyAuthenticator {
  /** Throws ApiError 401. `authorization` is the header's value. */
  authenticate(authorization: string | undefined): Promise<ApiKeyGrant>;
  /** Writes the last uses and stops the timer. */
  close(): Promise<void>;
}

export function createApiKeyAuthenticator(db: Database, logger: Logger): ApiKeyAuthenticator {
  const cache = new Map<string, { readonly grant: ApiKeyGrant; readonly untilMs: number }>();
  const used = new Set<string>();
  const touch = async () => {
    const ids = [...used];
    used.clear();
    await touchApiKeys(db, ids).catch((error: unknown) =>
      logger.warn({ error }, "could not note the use of API keys"),
    );
  };
  const timer = setInterval(touch, touchIntervalMs).unref();

  const find = async (rawKey: string): Promise<ApiKeyGrant | undefined> => {
    const nowMs = Date.now();
    const cached = cache.get(rawKey);
    if (cached !== undefined && cached.untilMs > nowMs) return cached.grant;
    const grant = await findApiKey(db, rawKey);
    cache.delete(rawKey);
    if (grant === undefined) return undefined;
    if (cache.size >= maxCached) cache.clear();
    cache.set(rawKey, { grant, untilMs: Math.min(nowMs + cacheMs, grant.expiresAt?.getTime() ?? Infinity) });
    return grant;
  };

  return {
    authenticate: async (authorization) => {
      if (authorization === undefined)
        throw new ApiError(401, "authentication is required: send an API key as bearer");
      const rawKey = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
      const grant = rawKey === undefined ? undefined : await find(rawKey);
      if (grant === undefined) throw new ApiError(401, "the API key is unknown, expired or revoked");
      used.add(grant.id);
      return grant;
    },
    close: async () => {
      clearInterval(timer);
      cache.clear();
      await touch();
    },
  };
}
