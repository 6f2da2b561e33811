/**
 * Any OpenID Connect provider with discovery, through openid-client: it checks issuer, audience, nonce, expiry and the
 * ID token's signature.
 */
import { ApiError } from "@helmr/api";
import type { ProviderIdentity } from "@helmr/store";
import * as client from "openid-client";
import type { Logger } from "pino";
import type { OidcConfig } from "../context.ts";
import { isLoopbackHost } from "./loopback.ts";
import {
  type AuthorizationCallback,
  httpsUrl,
  providerFailed,
  providerTimeoutMs,
  type SignInProvider,
  signInRefused,
  unreachableHint,
} from "./provider.ts";

/** How long the provider's metadata is believed; its keys are looked up again whenever an unknown one signs. */
const metadataMs = 60 * 60_000;

/** Throws for an issuer that is not https, except on this machine: codes and secrets would travel in clear. */
export function createOidcProvider(config: OidcConfig, logger: Logger): SignInProvider {
  const issuer = issuerUrl(config.issuer);
  const name = oidcDisplayName(config);
  const discover = createDiscovery(config, issuer);
  const configuration = () =>
    discover().catch((error: unknown) => {
      throw providerFailed(logger, name, unreachableHint, error);
    });
  return {
    kind: "oidc",
    authorizationUrl: async ({ redirectUri, state, codeVerifier, nonce }) => {
      const url = client.buildAuthorizationUrl(await configuration(), {
        redirect_uri: redirectUri,
        scope: "openid email profile",
        state,
        code_challenge: await client.calculatePKCECodeChallenge(codeVerifier),
        code_challenge_method: "S256",
        ...(nonce === undefined ? {} : { nonce }),
      });
      return url.href;
    },
    identify: async (callback) => {
      const provider = await configuration();
      try {
        return await identify(provider, callback, name);
      } catch (error) {
        throw describeFailure(error, name, logger);
      }
    },
  };
}

export function oidcDisplayName(config: OidcConfig): string {
  return config.displayName ?? new URL(config.issuer).host;
}

function issuerUrl(issuer: string): URL {
  const url = URL.parse(issuer);
  if (url === null) throw new Error("HELMR_OIDC_ISSUER: must be a URL like https://login.example.com");
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && isLoopbackHost(url.host));
  if (!isSafe) throw new Error("HELMR_OIDC_ISSUER: must be https (http only on this machine)");
  return url;
}

/** The provider's metadata, looked up at first use and again after an hour; a failure is not remembered. */
function createDiscovery(config: OidcConfig, issuer: URL): () => Promise<client.Configuration> {
  let known: { readonly at: number; readonly configuration: Promise<client.Configuration> } | undefined;
  return () => {
    if (known !== undefined && Date.now() - known.at < metadataMs) return known.configuration;
    const configuration = client.discovery(
      issuer,
      config.clientId,
      undefined,
      secretAs(config.clientSecret),
      {
        timeout: providerTimeoutMs / 1000,
        execute: [
          client.enableNonRepudiationChecks,
          ...(issuer.protocol === "http:" ? [client.allowInsecureRequests] : []),
        ],
      },
    );
    const entry = { at: Date.now(), configuration };
    known = entry;
    configuration.catch(() => {
      if (known === entry) known = undefined;
    });
    return configuration;
  };
}

/** As the provider says it wants the secret; Basic is what it means when it says nothing (Discovery 1.0, section 3). */
function secretAs(clientSecret: string): client.ClientAuth {
  const [basic, post] = [client.ClientSecretBasic(clientSecret), client.ClientSecretPost(clientSecret)];
  return (server, ...rest) => {
    const methods = server.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
    return methods.includes("client_secret_basic") ? basic(server, ...rest) : post(server, ...rest);
  };
}

async function identify(
  provider: client.Configuration,
  callback: AuthorizationCallback,
  name: string,
): Promise<ProviderIdentity> {
  refuseOtherIssuer(provider, callback, name);
  const tokens = await client.authorizationCodeGrant(provider, callbackUrl(callback), {
    pkceCodeVerifier: callback.codeVerifier,
    expectedState: callback.state,
    ...(callback.nonce === undefined ? {} : { expectedNonce: callback.nonce }),
    idTokenExpected: true,
  });
  const claims = tokens.claims();
  if (claims === undefined) throw new Error("the provider gave no ID token");
  const info = await userInfo(provider, tokens.access_token, claims);
  const told = { ...claims, ...info };
  return {
    provider: "oidc",
    issuer: claims.iss,
    subject: claims.sub,
    verifiedEmail: told.email_verified === true ? textOf(told.email) : undefined,
    displayName: textOf(told.name) ?? textOf(told.preferred_username),
    profileImageUrl: httpsUrl(textOf(told.picture)),
  };
}

/** Many providers tell e-mail and name only at the userinfo endpoint. Address and verification are of one answer. */
async function userInfo(
  provider: client.Configuration,
  accessToken: string,
  claims: client.IDToken,
): Promise<Readonly<Record<string, unknown>>> {
  const isComplete = claims.email !== undefined && claims.email_verified !== undefined;
  if (isComplete || provider.serverMetadata().userinfo_endpoint === undefined) return {};
  const info = await client.fetchUserInfo(provider, accessToken, claims.sub);
  return { ...info, email: info.email, email_verified: info.email_verified };
}

function callbackUrl({ redirectUri, code, state, iss }: AuthorizationCallback): URL {
  const url = new URL(redirectUri);
  url.searchParams.set("code", code);
  url.searchParams.set("state", state);
  if (iss !== undefined) url.searchParams.set("iss", iss);
  return url;
}

/** RFC 9207: a code of another provider that was mixed in. */
function refuseOtherIssuer(
  provider: client.Configuration,
  { iss }: AuthorizationCallback,
  name: string,
): void {
  const metadata = provider.serverMetadata();
  const isRequired = metadata.authorization_response_iss_parameter_supported === true;
  if (iss === undefined ? isRequired : iss !== metadata.issuer) {
    throw signInRefused(name, "the answer came from another provider");
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value.trim() !== "" && value.isWellFormed() ? value.trim() : undefined;
}

const ofTheUser = new Set(["invalid_grant", "access_denied", "invalid_request"]);

function describeFailure(error: unknown, name: string, logger: Logger): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof client.ResponseBodyError && ofTheUser.has(error.error)) {
    return signInRefused(name, "its code is used up, too old, or was not made for this sign-in");
  }
  if (error instanceof client.ResponseBodyError && error.error === "invalid_client") {
    return providerFailed(
      logger,
      name,
      "it does not accept this server's client id or secret; tell who runs this server",
      error,
    );
  }
  return providerFailed(logger, name, unreachableHint, error);
}
