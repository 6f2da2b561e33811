/** Sign-in and sign-out (contract 11.1 and 12). The device flow of the command line is in device.ts. */
import * as wire from "../wire/index.ts";
import { get, post } from "./route.ts";

const forEverybody = { access: { kind: "public" } } as const;
const forUsers = { access: { kind: "user" } } as const;

/** Refused when another site's page asks. */
const refusable = [403] as const;

export const signInRoutes = {
  listAuthProviders: {
    ...get,
    ...forEverybody,
    path: "/auth/providers",
    summary: "Read how one can sign in here",
    responses: { 200: wire.authProviders },
  },
  startMagicLink: {
    ...post,
    ...forEverybody,
    path: "/auth/magic-link/start",
    rateLimit: "sign_in_start",
    summary: "Ask for a sign-in link by e-mail",
    body: wire.magicLinkStartRequest,
    responses: { 200: wire.magicLinkStart },
    errors: refusable,
  },
  finishMagicLink: {
    ...post,
    ...forEverybody,
    path: "/auth/magic-link/finish",
    rateLimit: "sign_in_finish",
    summary: "Sign in with the token of a link; sets the session cookie",
    body: wire.magicLinkFinishRequest,
    responses: { 200: wire.signInFinish },
    errors: refusable,
  },
  startGithub: {
    ...post,
    ...forEverybody,
    path: "/auth/github/start",
    rateLimit: "sign_in_start",
    summary: "Begin to sign in with GitHub",
    body: wire.oauthStartRequest,
    responses: { 200: wire.oauthStart },
    errors: refusable,
  },
  finishGithub: {
    ...post,
    ...forEverybody,
    path: "/auth/github/finish",
    rateLimit: "sign_in_finish",
    summary: "Sign in with what GitHub added to the callback; sets the session cookie",
    body: wire.githubFinishRequest,
    responses: { 200: wire.signInFinish },
    errors: [...refusable, 502],
  },
  startOidc: {
    ...post,
    ...forEverybody,
    path: "/auth/oidc/start",
    rateLimit: "sign_in_start",
    summary: "Begin to sign in with the OpenID Connect provider",
    body: wire.oauthStartRequest,
    responses: { 200: wire.oauthStart },
    errors: [...refusable, 502],
  },
  finishOidc: {
    ...post,
    ...forEverybody,
    path: "/auth/oidc/finish",
    rateLimit: "sign_in_finish",
    summary: "Sign in with what the provider added to the callback; sets the session cookie",
    body: wire.oidcFinishRequest,
    responses: { 200: wire.signInFinish },
    errors: [...refusable, 502],
  },
  signInLocalOwner: {
    ...post,
    ...forEverybody,
    path: "/auth/local/sign-in",
    rateLimit: "sign_in_finish",
    summary: "Sign in as the owner of an embedded stack, from its own machine; sets the session cookie",
    body: wire.oauthStartRequest,
    bodyOptional: true,
    responses: { 200: wire.signInFinish },
    errors: [404],
  },
  signOut: {
    ...post,
    ...forUsers,
    path: "/auth/logout",
    summary: "Sign out: the session ends; clears the cookie",
    bodyIgnored: true,
    responses: { 204: null },
  },
  signOutEverywhere: {
    ...post,
    ...forUsers,
    path: "/auth/logout-everywhere",
    summary: "Sign out everywhere: all sessions of the user end; clears the cookie",
    bodyIgnored: true,
    responses: { 204: null },
  },
} as const;
