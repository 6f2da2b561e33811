/**
 * Who calls: the API key or user session of a request, found by the hash of its token.
 *
 * What is found is remembered for one second, so that a revocation, a changed role or a removed member counts everywhere
 * within a second, and a busy client costs one query a second. Unknown tokens are not remembered.
 */
import {
  type ApiKeyGrant,
  type Database,
  type EnvironmentReference,
  findApiKey,
  findUserSession,
  touchApiKeys,
  touchUserSessions,
  type UserSessionGrant,
} from "@helmr/store";
import type { Logger } from "pino";

const cacheMs = 1000;
const maxCached = 10_000;
const touchIntervalMs = 15_000;

export interface Authenticator {
  /** Undefined for a key that is unknown, expired or revoked. */
  findApiKey(token: string): Promise<ApiKeyGrant | undefined>;
  /** The same for a session token; with a reference also the environment it names. One query. */
  findUserSession(token: string, reference?: EnvironmentReference): Promise<UserSessionGrant | undefined>;
  /** Forget what is remembered: after a sign-in or a change that this process made itself. */
  forget(): void;
  /** Writes the last uses and stops the timer. */
  close(): Promise<void>;
}

export function createAuthenticator(db: Database, logger: Logger): Authenticator {
  const keys = createCache<ApiKeyGrant>();
  const sessions = createCache<UserSessionGrant>();
  const usedKeys = new Set<string>();
  const usedSessions = new Set<string>();
  const touch = async () => {
    const [keyIds, sessionIds] = [[...usedKeys], [...usedSessions]];
    usedKeys.clear();
    usedSessions.clear();
    await Promise.all([touchApiKeys(db, keyIds), touchUserSessions(db, sessionIds)]).catch((error: unknown) =>
      logger.warn({ error }, "could not note the use of credentials"),
    );
  };
  const timer = setInterval(touch, touchIntervalMs).unref();
  const forget = () => {
    keys.clear();
    sessions.clear();
  };
  return {
    findApiKey: async (token) => {
      const grant = await keys.get(token, () => findApiKey(db, token));
      if (grant !== undefined) usedKeys.add(grant.id);
      return grant;
    },
    findUserSession: async (token, reference) => {
      const name = [token, reference?.project, reference?.environment].join("\0");
      const grant = await sessions.get(name, () => findUserSession(db, token, reference));
      if (grant !== undefined) usedSessions.add(grant.sessionId);
      return grant;
    },
    forget,
    close: async () => {
      clearInterval(timer);
      forget();
      await touch();
    },
  };
}

interface Cache<T> {
  get(name: string, find: () => Promise<T | undefined>): Promise<T | undefined>;
  clear(): void;
}

function createCache<T extends { readonly expiresAt: Date | undefined }>(): Cache<T> {
  const entries = new Map<string, { readonly value: T; readonly untilMs: number }>();
  return {
    get: async (name, find) => {
      const nowMs = Date.now();
      const cached = entries.get(name);
      if (cached !== undefined && cached.untilMs > nowMs) return cached.value;
      const value = await find();
      entries.delete(name);
      if (value === undefined) return undefined;
      if (entries.size >= maxCached) entries.clear();
      entries.set(name, {
        value,
        untilMs: Math.min(nowMs + cacheMs, value.expiresAt?.getTime() ?? Infinity),
      });
      return value;
    },
    clear: () => entries.clear(),
  };
}
