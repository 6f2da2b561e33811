/**
 * GitHub: its OAuth web application flow (docs.github.com, "Authorizing OAuth apps") and two calls of its REST API.
 * GitHub Enterprise Server has the same at other URLs.
 */
import { createHash } from "node:crypto";
import type { ProviderIdentity } from "@helmr/store";
import type { Logger } from "pino";
import { z } from "zod";
import type { GitHubConfig } from "../context.ts";
import {
  type AuthorizationCallback,
  httpsUrl,
  providerFailed,
  providerTimeoutMs,
  type SignInProvider,
  signInRefused,
  unreachableHint,
} from "./provider.ts";

const publicGitHub = "https://github.com";
const publicApi = "https://api.github.com";

/** Errors come with status 200, too. */
const tokenAnswer = z.union([z.object({ error: z.string() }), z.object({ access_token: z.string().min(1) })]);
const account = z.object({
  id: z.int(),
  login: z.string(),
  name: z.string().nullish(),
  avatar_url: z.string().nullish(),
});
const emails = z.array(z.object({ email: z.string(), primary: z.boolean(), verified: z.boolean() }));

/** What is wrong with how this server is registered, not with the user's attempt. */
const registrationErrors = new Set(["incorrect_client_credentials", "redirect_uri_mismatch", "unauthorized"]);

export function createGitHubProvider(config: GitHubConfig, logger: Logger): SignInProvider {
  const url = (config.url ?? publicGitHub).replace(/\/+$/, "");
  const apiUrl = (config.apiUrl ?? (url === publicGitHub ? publicApi : `${url}/api/v3`)).replace(/\/+$/, "");
  const fail = (hint: string, cause: unknown) => providerFailed(logger, "GitHub", hint, cause);

  async function exchange(callback: AuthorizationCallback): Promise<string> {
    const answer = await fetchJson(`${url}/login/oauth/access_token`, tokenAnswer, {
      method: "POST",
      headers: { accept: "application/json" },
      body: new URLSearchParams({
        client_id: config.clientId,
        client_secret: config.clientSecret,
        code: callback.code,
        redirect_uri: callback.redirectUri,
        code_verifier: callback.codeVerifier,
      }),
    }).catch((error: unknown) => {
      throw fail(unreachableHint, error);
    });
    if ("access_token" in answer) return answer.access_token;
    if (registrationErrors.has(answer.error)) {
      throw fail(
        "it does not accept this server's client id, secret or callback address; tell who runs this server",
        new Error(answer.error),
      );
    }
    const why =
      answer.error === "bad_verification_code" ? "its code is used up or too old" : "it was refused";
    throw signInRefused("GitHub", why);
  }

  const read = <S extends z.ZodType>(path: string, schema: S, accessToken: string): Promise<z.output<S>> =>
    fetchJson(`${apiUrl}${path}`, schema, {
      headers: {
        accept: "application/vnd.github+json",
        authorization: `Bearer ${accessToken}`,
        "user-agent": "helmr",
        "x-github-api-version": "2022-11-28",
      },
    }).catch((error: unknown) => {
      const refused = error instanceof StatusError && (error.status === 403 || error.status === 404);
      throw fail(
        refused ? "it did not let this server read your account and its e-mail addresses" : unreachableHint,
        error,
      );
    });

  return {
    kind: "github",
    authorizationUrl: async ({ redirectUri, state, codeVerifier }) => {
      const parameters = new URLSearchParams({
        client_id: config.clientId,
        redirect_uri: redirectUri,
        scope: "read:user user:email",
        state,
        code_challenge: createHash("sha256").update(codeVerifier).digest("base64url"),
        code_challenge_method: "S256",
      });
      return `${url}/login/oauth/authorize?${parameters}`;
    },
    identify: async (callback): Promise<ProviderIdentity> => {
      const accessToken = await exchange(callback);
      const [user, addresses] = await Promise.all([
        read("/user", account, accessToken),
        read("/user/emails", emails, accessToken),
      ]);
      return {
        provider: "github",
        issuer: url,
        subject: String(user.id),
        verifiedEmail: addresses.find(({ primary, verified }) => primary && verified)?.email,
        displayName: user.name?.trim() || user.login,
        profileImageUrl: httpsUrl(user.avatar_url ?? undefined),
      };
    },
  };
}

class StatusError extends Error {
  readonly status: number;
  constructor(status: number) {
    super(`status ${status}`);
    this.status = status;
  }
}

async function fetchJson<S extends z.ZodType>(
  url: string,
  schema: S,
  init: RequestInit,
): Promise<z.output<S>> {
  const response = await fetch(url, {
    ...init,
    redirect: "error",
    signal: AbortSignal.timeout(providerTimeoutMs),
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new StatusError(response.status);
  }
  const parsed = schema.safeParse(parseJson(await response.text()));
  if (!parsed.success) throw new Error(`an answer of another shape: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** The parser's own message quotes the text, which may hold a token. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("an answer that is no JSON");
  }
}
