/** What every way to sign in ends with: a user, a new session, its cookie, and the end of the session there was. */
import { ApiError } from "@helmr/api";
import {
  type Actor,
  chooseOrganization,
  createUserSession,
  replaceUserSession,
  signInTransaction,
  type Tx,
  type User,
} from "@helmr/store";
import type { FastifyReply, FastifyRequest } from "fastify";
import { actorOfUser } from "../auth/authorize.ts";
import { readCookie, readCredential } from "../auth/credential.ts";
import type { Context } from "../context.ts";
import { clearedCookie, sessionCookie } from "./cookies.ts";

export interface SignInCall {
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
  /** Of the request, not signed in yet. */
  readonly actor: Actor;
}

export interface SignInResult {
  readonly user: User;
  readonly redirectAfter: string;
}

/**
 * Sign in whom `identify` finds, in one transaction with what it uses up: a link is not lost when the database fails
 * half-way. The old cookie's session ends (rotation), and the answer carries the new cookie.
 */
export async function signIn(
  context: Context,
  call: SignInCall,
  identify: (tx: Tx) => Promise<SignInResult>,
): Promise<{ readonly redirect_after: string }> {
  const { request, reply } = call;
  const replaced = readCookie(request.headers.cookie, context.cookieName);
  const signedIn = await signInTransaction(context.db, async (tx) => {
    const { user, redirectAfter } = await identify(tx);
    const actor = actorOfUser(request, user);
    if (replaced !== undefined) await replaceUserSession(tx, actor, replaced);
    const organizationId = await chooseOrganization(tx, user.userId);
    const session = await createUserSession(tx, actor, {
      userId: user.userId,
      organizationId,
      kind: "browser",
    });
    return { token: session.token, redirectAfter };
  });
  context.authenticator.forget();
  addCookie(reply, sessionCookie(context.cookieName, signedIn.token));
  return { redirect_after: signedIn.redirectAfter };
}

/**
 * A session lives for 30 days after its last use, a cookie for 30 days after it was sent: the page that asks who is signed
 * in gets its cookie again.
 */
export function renewCookie({ cookieName }: Context, request: FastifyRequest, reply: FastifyReply): void {
  const credential = readCredential(request, cookieName);
  if (credential.kind !== "user_session" || credential.from !== "cookie") return;
  addCookie(reply, sessionCookie(cookieName, credential.token));
}

/** The answer to a sign-out, from a browser or not. */
export function clearSession(context: Context, reply: FastifyReply): void {
  context.authenticator.forget();
  addCookie(reply, clearedCookie(context.cookieName));
}

export function addCookie(reply: FastifyReply, line: string): void {
  void reply.header("set-cookie", line);
}

/**
 * Routes that sign in look at no credential, so the check of changes by cookie (Z3) does not reach them. Without this one
 * another site's page could sign a visitor in as somebody else, who then works in the wrong account unknowingly.
 */
export function refuseOtherSites(request: FastifyRequest, publicUrl: string): void {
  if (comesFromOurPages(request, publicUrl)) return;
  throw new ApiError(
    403,
    `this sign-in did not come from a page of this server; open ${new URL(publicUrl).origin}/auth/sign-in`,
  );
}

/** Whether the request comes from our own pages, or from no page at all. */
export function comesFromOurPages(request: FastifyRequest, publicUrl: string): boolean {
  const { origin } = request.headers;
  if (origin !== undefined) return origin === new URL(publicUrl).origin;
  const site = request.headers["sec-fetch-site"];
  return site === undefined || site === "same-origin" || site === "none";
}
