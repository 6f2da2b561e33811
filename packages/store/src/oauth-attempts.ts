/**
 * Sign-ins under way at a provider: from the redirect there to the callback.
 *
 *   open -> consumed   by the callback that brings the state, in the browser that began (OA1, OA2)
 *   open -> expired    after 10 minutes (no write); swept later (sweep-identity.ts)
 *
 * OA1 A state counts once: the update of its one row decides, before the provider is asked anything.
 * OA2 Only in the browser that began it: a callback address made by somebody else signs nobody in, and uses up nothing.
 *
 * State and browser are stored as sha256. Verifier and nonce are needed in clear, live for 10 minutes, and are of no use
 * without the code that the provider gives to the browser.
 */
import { createHash, randomBytes } from "node:crypto";
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

export const oauthAttemptMinutes = 10;

/** What states and browser tokens look like. */
export const oauthTokenPattern = /^[A-Za-z0-9_-]{43}$/;

export interface OAuthAttempt {
  readonly provider: "github" | "oidc";
  /** PKCE (RFC 7636). */
  readonly codeVerifier: string;
  /** Of OpenID Connect: comes back in the ID token. */
  readonly nonce: string | undefined;
  /** A path of this server. */
  readonly redirectAfter: string;
}

/** A new value for a state, or for the cookie that knows the browser again. */
export function newOAuthToken(): string {
  return randomBytes(32).toString("base64url");
}

/** The state to send along. */
export async function createOAuthAttempt(
  db: Queryable,
  attempt: OAuthAttempt,
  browserToken: string,
): Promise<string> {
  const state = newOAuthToken();
  await sql`
    insert into oauth_attempts (state_hash, provider, browser_hash, code_verifier, nonce, redirect_after, expires_at)
    values (${hashToken(state)}, ${attempt.provider}, ${hashToken(browserToken)}, ${attempt.codeVerifier},
      ${attempt.nonce ?? null}, ${attempt.redirectAfter}, now() + make_interval(mins => ${oauthAttemptMinutes}))`.execute(
    db,
  );
  return state;
}

/** OA1, OA2. Undefined for a state that is unknown, used, expired, of another provider or of another browser. */
export async function consumeOAuthAttempt(
  db: Queryable,
  callback: {
    readonly provider: OAuthAttempt["provider"];
    readonly state: string;
    readonly browserToken: string;
  },
): Promise<OAuthAttempt | undefined> {
  const { provider, state, browserToken } = callback;
  if (!oauthTokenPattern.test(state) || !oauthTokenPattern.test(browserToken)) return undefined;
  const { rows } = await sql<{ code_verifier: string; nonce: string | null; redirect_after: string }>`
    update oauth_attempts set consumed_at = now()
    where state_hash = ${hashToken(state)} and browser_hash = ${hashToken(browserToken)} and provider = ${provider}
      and consumed_at is null and expires_at > now()
    returning code_verifier, nonce, redirect_after`.execute(db);
  const row = rows[0];
  return (
    row && {
      provider,
      codeVerifier: row.code_verifier,
      nonce: row.nonce ?? undefined,
      redirectAfter: row.redirect_after,
    }
  );
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
