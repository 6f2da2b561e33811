/** A real OpenID Connect provider (oidc-provider) on loopback, and a person who goes through its login and consent pages. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import Provider, { type Configuration } from "oidc-provider";
import { parseSetCookie } from "./browser.ts";

export interface TestOidc {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** What the provider tells of an account, by its subject. */
  readonly accounts: Map<string, Readonly<Record<string, unknown>>>;
  /** The person logs in as the account and agrees: what the provider then adds to the callback. */
  agree(redirectUrl: string, subject: string): Promise<OidcCallback>;
  /** The person says no. */
  decline(redirectUrl: string): Promise<URLSearchParams>;
  /** Requests seen, by path. */
  readonly requests: Map<string, number>;
  stop(): Promise<void>;
}

export interface OidcCallback {
  readonly code: string;
  readonly state: string;
  readonly iss: string;
}

export interface TestOidcOptions {
  readonly redirectUri: string;
  /** ID tokens tell e-mail and name themselves. */
  readonly claimsInIdToken?: boolean;
  readonly secretInBody?: boolean;
}

const maxSteps = 20;

export async function startTestOidc(options: TestOidcOptions): Promise<TestOidc> {
  const [clientId, clientSecret] = ["helmr", "oidc-client-secret-0123456789abcdef"];
  const accounts: TestOidc["accounts"] = new Map();
  const requests: TestOidc["requests"] = new Map();
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const authMethod = options.secretInBody ? "client_secret_post" : "client_secret_basic";
  const configuration: Configuration = {
    clients: [
      {
        client_id: clientId,
        client_secret: clientSecret,
        redirect_uris: [options.redirectUri],
        token_endpoint_auth_method: authMethod,
      },
    ],
    clientAuthMethods: [authMethod],
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "picture"] },
    conformIdTokenClaims: options.claimsInIdToken !== true,
    cookies: { keys: ["test"] },
    findAccount: (_context, sub) => ({ accountId: sub, claims: async () => ({ sub, ...accounts.get(sub) }) }),
  };
  const provider = new Provider(issuer, configuration);
  const handle = provider.callback();
  server.on("request", (request, response) => {
    const { pathname } = new URL(request.url ?? "", issuer);
    requests.set(pathname, (requests.get(pathname) ?? 0) + 1);
    void handle(request, response);
  });

  /** Follows the provider's redirects and fills in its forms until it sends the browser back. */
  async function walk(redirectUrl: string, fillIn: (page: Page) => Step): Promise<URLSearchParams> {
    const cookies = new Map<string, string>();
    let step: Step = { url: redirectUrl };
    for (let count = 0; count < maxSteps; count += 1) {
      if (step.url.startsWith(options.redirectUri)) return new URL(step.url).searchParams;
      const response: Response = await fetch(step.url, {
        redirect: "manual",
        headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
        ...(step.form && { method: "POST", body: new URLSearchParams(step.form) }),
      });
      for (const line of response.headers.getSetCookie()) {
        const { name, value } = parseSetCookie(line);
        if (value === "") cookies.delete(name);
        else cookies.set(name, value);
      }
      const location = response.headers.get("location");
      if (location !== null) step = { url: new URL(location, issuer).href };
      else step = fillIn({ status: response.status, url: step.url, html: await response.text() });
    }
    throw new Error("the provider's pages never lead back");
  }

  return {
    issuer,
    clientId,
    clientSecret,
    accounts,
    requests,
    agree: async (redirectUrl, subject) => {
      const returned = await walk(redirectUrl, (page) => {
        const prompt = promptOf(page);
        const login: Record<string, string> = prompt === "login" ? { login: subject, password: "any" } : {};
        return { url: formAction(page), form: { prompt, ...login } };
      });
      return {
        code: returned.get("code") ?? "",
        state: returned.get("state") ?? "",
        iss: returned.get("iss") ?? "",
      };
    },
    decline: (redirectUrl) => walk(redirectUrl, (page) => ({ url: `${page.url.replace(/\/$/, "")}/abort` })),
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

interface Page {
  readonly status: number;
  readonly url: string;
  readonly html: string;
}

interface Step {
  readonly url: string;
  readonly form?: Record<string, string>;
}

function promptOf({ html, status }: Page): string {
  const prompt = /name="prompt" value="(\w+)"/.exec(html)?.[1];
  if (prompt === undefined)
    throw new Error(`the provider shows no form, but ${status}: ${html.slice(0, 2000)}`);
  return prompt;
}

function formAction({ html, url }: Page): string {
  return new URL(/action="([^"]+)"/.exec(html)?.[1] ?? "", url).href;
}
