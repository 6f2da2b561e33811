/**
 * A server that behaves as GitHub documents it ("Authorizing OAuth apps", "REST API endpoints for users", "... for
 * emails"): codes work once, for their callback address and verifier; errors of the token endpoint come with status 200.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

export interface GitHubAccount {
  readonly id: number;
  readonly login: string;
  readonly name: string | null;
  readonly emails: readonly {
    readonly email: string;
    readonly primary: boolean;
    readonly verified: boolean;
  }[];
}

export interface TestGitHub {
  readonly url: string;
  readonly clientId: string;
  readonly clientSecret: string;
  /** The account's owner opens the page and agrees: what GitHub then adds to the callback. */
  agree(
    redirectUrl: string,
    account: GitHubAccount,
  ): Promise<{ readonly code: string; readonly state: string }>;
  /** Until set back to undefined, every answer is this one. */
  failWith: { readonly status: number; readonly body: string } | undefined;
  /** Answers nothing at all to these paths. */
  readonly hangingPaths: Set<string>;
  stop(): Promise<void>;
}

interface Grant {
  readonly account: GitHubAccount;
  readonly redirectUri: string;
  readonly challenge: string;
  readonly scopes: readonly string[];
}

export async function startTestGitHub(): Promise<TestGitHub> {
  const [clientId, clientSecret] = ["Iv1.test", "github-client-secret"];
  const codes = new Map<string, Grant>();
  const tokens = new Map<string, Grant>();
  const hangingPaths = new Set<string>();

  const json = (response: ServerResponse, status: number, body: unknown) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));

  function exchange(form: URLSearchParams): Record<string, string> {
    if (form.get("client_id") !== clientId || form.get("client_secret") !== clientSecret) {
      return { error: "incorrect_client_credentials" };
    }
    const code = form.get("code") ?? "";
    const grant = codes.get(code);
    const challenge = createHash("sha256")
      .update(form.get("code_verifier") ?? "")
      .digest("base64url");
    if (grant === undefined || grant.challenge !== challenge) return { error: "bad_verification_code" };
    if (grant.redirectUri !== form.get("redirect_uri")) return { error: "redirect_uri_mismatch" };
    codes.delete(code);
    const token = `gho_${randomBytes(18).toString("hex")}`;
    tokens.set(token, grant);
    return { access_token: token, token_type: "bearer", scope: grant.scopes.join(",") };
  }

  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? "", "http://github");
    const body = await text(request);
    if (hangingPaths.has(pathname)) return;
    if (github.failWith !== undefined) {
      response.writeHead(github.failWith.status).end(github.failWith.body);
      return;
    }
    if (pathname === "/login/oauth/access_token" && request.method === "POST") {
      json(response, 200, exchange(new URLSearchParams(body)));
      return;
    }
    const grant = tokens.get(request.headers.authorization?.replace("Bearer ", "") ?? "");
    if (grant === undefined) return json(response, 401, { message: "Bad credentials" });
    const { id, login, name, emails } = grant.account;
    const avatar_url = `https://avatars.example/${id}`;
    if (pathname === "/api/v3/user")
      return json(response, 200, { id, login, name, avatar_url, email: "no@x.y" });
    if (pathname === "/api/v3/user/emails" && grant.scopes.includes("user:email")) {
      return json(response, 200, emails);
    }
    return json(response, 404, { message: "Not Found" });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const github: TestGitHub = {
    url,
    clientId,
    clientSecret,
    failWith: undefined,
    hangingPaths,
    agree: async (redirectUrl, account) => {
      const { origin, pathname, searchParams: query } = new URL(redirectUrl);
      const asks = {
        page: origin + pathname,
        client: query.get("client_id"),
        method: query.get("code_challenge_method"),
      };
      const right = { page: `${url}/login/oauth/authorize`, client: clientId, method: "S256" };
      if (JSON.stringify(asks) !== JSON.stringify(right)) throw new Error(`GitHub refuses ${redirectUrl}`);
      const code = randomBytes(10).toString("hex");
      codes.set(code, {
        account,
        redirectUri: query.get("redirect_uri") ?? "",
        challenge: query.get("code_challenge") ?? "",
        scopes: (query.get("scope") ?? "").split(" "),
      });
      return { code, state: query.get("state") ?? "" };
    },
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return github;
}
