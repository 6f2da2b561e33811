/** Sign-in and sign-out (contract 11.1 and 12). */
import { ApiError } from "@helmr/api";
import { findUser, revokeUserSession, revokeUserSessions } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { createGitHubProvider } from "../sign-in/github.ts";
import { localOwnerOf } from "../sign-in/local-owner.ts";
import { finishMagicLink, offersMagicLinks, startMagicLink } from "../sign-in/magic-link.ts";
import { createOAuthFlow, type OAuthFlow } from "../sign-in/oauth.ts";
import { createOidcProvider, oidcDisplayName } from "../sign-in/oidc.ts";
import { redirectAfter } from "../sign-in/redirect-after.ts";
import { clearSession, refuseOtherSites, signIn } from "../sign-in/sign-in.ts";
import { found } from "./found.ts";

type SignInHandlers = Pick<
  Handlers,
  | "listAuthProviders"
  | "startMagicLink"
  | "finishMagicLink"
  | "startGithub"
  | "finishGithub"
  | "startOidc"
  | "finishOidc"
  | "signInLocalOwner"
>;

/** Throws for settings that cannot work, so that a server with them does not start. */
export function signInHandlers(context: Context): SignInHandlers {
  const { config, logger } = context;
  const { publicUrl } = config;
  const github = config.github && createOAuthFlow(context, createGitHubProvider(config.github, logger));
  const oidc = config.oidc && createOAuthFlow(context, createOidcProvider(config.oidc, logger));
  return {
    listAuthProviders: async ({ request }) => ({
      status: 200,
      body: {
        email: offersMagicLinks(context),
        github: github !== undefined,
        ...(config.oidc && { oidc: { display_name: oidcDisplayName(config.oidc) } }),
        local_owner: localOwnerOf(request, config) !== undefined,
      },
    }),
    startMagicLink: async ({ request, body }) => {
      refuseOtherSites(request, publicUrl);
      return { status: 200, body: await startMagicLink(context, body) };
    },
    finishMagicLink: async (call) => {
      refuseOtherSites(call.request, publicUrl);
      return { status: 200, body: await finishMagicLink(context, call, call.body.token) };
    },
    startGithub: async (call) => {
      refuseOtherSites(call.request, publicUrl);
      return { status: 200, body: await required(github, "GitHub").start(call, call.body.next) };
    },
    finishGithub: async (call) => {
      refuseOtherSites(call.request, publicUrl);
      return { status: 200, body: await required(github, "GitHub").finish(call, call.body) };
    },
    startOidc: async (call) => {
      refuseOtherSites(call.request, publicUrl);
      return { status: 200, body: await required(oidc, "OpenID Connect").start(call, call.body.next) };
    },
    finishOidc: async (call) => {
      refuseOtherSites(call.request, publicUrl);
      return { status: 200, body: await required(oidc, "OpenID Connect").finish(call, call.body) };
    },
    signInLocalOwner: async (call) => {
      const ownerId = localOwnerOf(call.request, config);
      if (ownerId === undefined) throw new ApiError(404, "not found");
      const body = await signIn(context, call, async (tx) => ({
        user: found(await findUser(tx, ownerId), "local owner"),
        redirectAfter: redirectAfter(call.body.next),
      }));
      return { status: 200, body };
    },
  };
}

function required(flow: OAuthFlow | undefined, name: string): OAuthFlow {
  if (flow === undefined) {
    throw new ApiError(400, `sign-in with ${name} is not set up on this server; use another way to sign in`);
  }
  return flow;
}

export function signOutHandlers(context: Context): Pick<Handlers, "signOut" | "signOutEverywhere"> {
  const { db } = context;
  return {
    signOut: async ({ actor, user, reply }) => {
      await revokeUserSession(db, actor, user.sessionId);
      clearSession(context, reply);
      return { status: 204, body: undefined };
    },
    signOutEverywhere: async ({ actor, user, reply }) => {
      await revokeUserSessions(db, actor, user.userId, user.membership?.organizationId);
      clearSession(context, reply);
      return { status: 204, body: undefined };
    },
  };
}
