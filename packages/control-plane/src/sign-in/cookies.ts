/**
 * The two cookies: the session, and what knows a browser again between leaving for a provider and coming back.
 *
 * Both are HttpOnly (no script reads them), SameSite=Lax (other sites' requests come without them, a link from another
 * site comes with them) and Secure where the server is reached by https; the prefix `__Host-` makes browsers hold every
 * page of every other host, and of this one without https, off them.
 */
import { oauthAttemptMinutes, userSessionDays } from "@helmr/store";

const sessionSeconds = userSessionDays * 86_400;

/** For Set-Cookie. Names that start with `__Host-` are Secure. */
function cookie(name: string, value: string, maxAgeSeconds: number): string {
  const secure = name.startsWith("__Host-") ? "; Secure" : "";
  return `${name}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure}`;
}

export function sessionCookie(name: string, token: string): string {
  return cookie(name, token, sessionSeconds);
}

/** Ends the cookie of that name. */
export function clearedCookie(name: string): string {
  return cookie(name, "", 0);
}

export function browserCookieName(publicUrl: string): string {
  return new URL(publicUrl).protocol === "https:" ? "__Host-helmr_oauth" : "helmr_oauth_dev";
}

export function browserCookie(name: string, browserToken: string): string {
  return cookie(name, browserToken, oauthAttemptMinutes * 60);
}
