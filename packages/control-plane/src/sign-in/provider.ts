/** A provider that knows who somebody is: GitHub or OpenID Connect, both by OAuth's authorization code with PKCE. */
import { ApiError } from "@helmr/api";
import type { ProviderIdentity } from "@helmr/store";
import type { Logger } from "pino";

/** For every single call to a provider. */
export const providerTimeoutMs = 10_000;

export interface AuthorizationRequest {
  /** Where the provider sends the browser back to. */
  readonly redirectUri: string;
  readonly state: string;
  readonly codeVerifier: string;
  readonly nonce: string | undefined;
}

/** What the browser brought back, with what was kept of the request. */
export interface AuthorizationCallback extends AuthorizationRequest {
  readonly code: string;
  /** Who says to have sent the browser back (RFC 9207). */
  readonly iss: string | undefined;
}

export interface SignInProvider {
  readonly kind: "github" | "oidc";
  /** The provider's page where the user agrees. Throws ApiError 502 where the provider must be asked for it. */
  authorizationUrl(request: AuthorizationRequest): Promise<string>;
  /** Whose the code is. Throws ApiError 400 for a code that does not count, 502 for a provider that fails. */
  identify(callback: AuthorizationCallback): Promise<ProviderIdentity>;
}

/** The user can mend it: start again, or let us read what we need. */
export function signInRefused(provider: string, why: string): ApiError {
  return new ApiError(400, `${provider} did not confirm this sign-in: ${why}; start again`);
}

/**
 * The provider, or how this server is set up with it, is at fault. The log says what happened, the answer whom to ask;
 * neither holds a code or a token: of an error only its name, code and message are kept.
 */
export function providerFailed(logger: Logger, provider: string, hint: string, cause: unknown): ApiError {
  logger.warn({ provider, cause: describeCause(cause) }, "a sign-in provider failed");
  return new ApiError(502, `signing in with ${provider} failed: ${hint}`);
}

export const unreachableHint = "it did not answer in time or as expected; try again in a minute";

/** A picture's address, when browsers may load it. */
export function httpsUrl(text: string | undefined): string | undefined {
  return text !== undefined && URL.parse(text)?.protocol === "https:" ? text : undefined;
}

function describeCause(cause: unknown): Record<string, unknown> {
  if (!(cause instanceof Error)) return { message: String(cause) };
  const { name, message } = cause;
  const { code, error } = cause as { code?: unknown; error?: unknown };
  // Of what lies beneath only a system's code, like ECONNREFUSED: a parser's message quotes what it was given.
  const inner = (cause.cause as { code?: unknown } | undefined)?.code;
  return {
    name,
    message,
    ...(typeof code === "string" && { code }),
    ...(typeof error === "string" && { error }),
    ...(typeof inner === "string" && { inner }),
  };
}
