/** What a request presents: an API key or a session token as bearer, or a session token in the browser's cookie. */
import { apiKeyPattern, userSessionTokenPattern } from "@helmr/store";
import type { FastifyRequest } from "fastify";

export type Credential =
  | { readonly kind: "none" }
  | { readonly kind: "malformed" }
  | { readonly kind: "api_key"; readonly token: string }
  | { readonly kind: "user_session"; readonly token: string; readonly from: "bearer" | "cookie" };

/** Contract 12. The prefix makes browsers refuse the cookie without https, for other paths, and from other hosts. */
export function sessionCookieName(publicUrl: string): string {
  return new URL(publicUrl).protocol === "https:" ? "__Host-helmr_session" : "helmr_session_dev";
}

/** An Authorization header is what counts when there is one, also a malformed one: no silent fall-back to a cookie. */
export function readCredential(request: FastifyRequest, cookieName: string): Credential {
  const { authorization, cookie } = request.headers;
  if (authorization !== undefined) {
    const token = /^Bearer +(\S+)$/i.exec(authorization)?.[1];
    if (token === undefined) return { kind: "malformed" };
    if (apiKeyPattern.test(token)) return { kind: "api_key", token };
    if (userSessionTokenPattern.test(token)) return { kind: "user_session", token, from: "bearer" };
    return { kind: "malformed" };
  }
  const token = readCookie(cookie, cookieName);
  if (token === undefined) return { kind: "none" };
  if (!userSessionTokenPattern.test(token)) return { kind: "malformed" };
  return { kind: "user_session", token, from: "cookie" };
}

/** The value of the first cookie of that name. */
export function readCookie(header: string | undefined, name: string): string | undefined {
  for (const part of header?.split(";") ?? []) {
    const equals = part.indexOf("=");
    if (equals > 0 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim();
  }
  return undefined;
}
