/** Leaving for a provider and coming back: the same for each of them. */
import { ApiError } from "@helmr/api";
import {
  consumeOAuthAttempt,
  createOAuthAttempt,
  findOrCreateUserByIdentity,
  newOAuthToken,
  oauthTokenPattern,
} from "@helmr/store";
import type { FastifyRequest } from "fastify";
import * as client from "openid-client";
import { readCookie } from "../auth/credential.ts";
import type { Context } from "../context.ts";
import { browserCookie, browserCookieName } from "./cookies.ts";
import type { SignInProvider } from "./provider.ts";
import { redirectAfter } from "./redirect-after.ts";
import { addCookie, type SignInCall, signIn } from "./sign-in.ts";

export interface OAuthFlow {
  start(call: SignInCall, next: string | undefined): Promise<{ readonly redirect_url: string }>;
  finish(
    call: SignInCall,
    returned: { readonly code: string; readonly state: string; readonly iss?: string | undefined },
  ): Promise<{ readonly redirect_after: string }>;
}

export function createOAuthFlow(context: Context, provider: SignInProvider): OAuthFlow {
  const { publicUrl } = context.config;
  const cookieName = browserCookieName(publicUrl);
  const redirectUri = `${publicUrl.replace(/\/+$/, "")}/auth/${provider.kind}/callback`;
  return {
    start: async ({ request, reply }, next) => {
      const browserToken = knownBrowser(request, cookieName) ?? newOAuthToken();
      const codeVerifier = client.randomPKCECodeVerifier();
      const nonce = provider.kind === "oidc" ? client.randomNonce() : undefined;
      const attempt = {
        provider: provider.kind,
        codeVerifier,
        nonce,
        redirectAfter: redirectAfter(next),
      };
      const state = await createOAuthAttempt(context.db, attempt, browserToken);
      const redirectUrl = await provider.authorizationUrl({ redirectUri, state, codeVerifier, nonce });
      addCookie(reply, browserCookie(cookieName, browserToken));
      return { redirect_url: redirectUrl };
    },
    finish: async (call, { code, state, iss }) => {
      const browserToken = knownBrowser(call.request, cookieName);
      const attempt =
        browserToken === undefined
          ? undefined
          : await consumeOAuthAttempt(context.db, { provider: provider.kind, state, browserToken });
      if (attempt === undefined) {
        throw new ApiError(
          400,
          "this sign-in was not begun in this browser, was used, or is older than 10 minutes; start again",
        );
      }
      const { codeVerifier, nonce } = attempt;
      const identity = await provider.identify({ redirectUri, state, codeVerifier, nonce, code, iss });
      return await signIn(context, call, async (tx) => ({
        user: await findOrCreateUserByIdentity(tx, call.actor, identity),
        redirectAfter: attempt.redirectAfter,
      }));
    },
  };
}

/** A second sign-in begun in another tab keeps the first one's cookie: both can be finished. */
function knownBrowser(request: FastifyRequest, cookieName: string): string | undefined {
  const token = readCookie(request.headers.cookie, cookieName);
  return token !== undefined && oauthTokenPattern.test(token) ? token : undefined;
}
