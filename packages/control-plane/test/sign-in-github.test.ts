/** Sign-in with GitHub; what it has in common with every provider: the browser's cookie, single use, expiry. */
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createGitHubProvider } from "../src/sign-in/github.ts";
import { type Browser, newBrowser, parseSetCookie } from "./support/browser.ts";
import { type GitHubAccount, startTestGitHub, type TestGitHub } from "./support/github.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let github: TestGitHub;
let server: TestServer;
beforeAll(async () => {
  github = await startTestGitHub();
  const { url, clientId, clientSecret } = github;
  server = await startTestServer({
    publicUrl: "https://helmr.example",
    github: { url, clientId, clientSecret },
  });
});
afterAll(async () => {
  await server.stop();
  await github.stop();
});
beforeEach(() => {
  github.failWith = undefined;
  github.hangingPaths.clear();
});

let count = 1000;
function newAccount(more: Partial<GitHubAccount> = {}): GitHubAccount {
  const id = ++count;
  const emails = [
    { email: `other${id}@example.com`, primary: false, verified: true },
    { email: `Ada${id}@example.com`, primary: true, verified: true },
  ];
  return { id, login: `ada${id}`, name: "Ada L", emails, ...more };
}

async function start(browser: Browser, next?: string): Promise<string> {
  const answer = await browser.post("/auth/github/start", next === undefined ? {} : { next });
  expect(answer.status).toBe(200);
  return answer.body.redirect_url;
}

async function signIn(account: GitHubAccount): Promise<Browser> {
  const browser = newBrowser(server);
  const callback = await github.agree(await start(browser), account);
  expect((await browser.post("/auth/github/finish", callback)).status).toBe(200);
  return browser;
}

const userId = async (browser: Browser) => (await browser.get("/me")).body.user_id;

describe("who signs in", () => {
  test("the first time makes the user, with the verified primary address; later times find it", async () => {
    const account = newAccount();
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser, "/welcome"), account);
    const finished = await browser.post("/auth/github/finish", callback);
    expect(finished).toMatchObject({ status: 200, body: { redirect_after: "/welcome" } });
    const me = await browser.get("/me");
    expect(me.body).toMatchObject({
      display_name: "Ada L",
      profile_image_url: `https://avatars.example/${account.id}`,
    });
    const { email } = await server.db
      .selectFrom("users")
      .select("email")
      .where("id", "=", me.body.user_id)
      .executeTakeFirstOrThrow();
    expect(email).toBe(`ada${account.id}@example.com`);
    const moved = { ...account, emails: [{ email: "new@example.com", primary: true, verified: true }] };
    expect(await userId(await signIn(moved))).toBe(me.body.user_id);
  });

  test("an account with a member's verified address is that member", async () => {
    const member = await server.newMember("admin");
    const account = newAccount({ emails: [{ email: member.email, primary: true, verified: true }] });
    expect(await userId(await signIn(account))).toBe(member.userId);
  });

  test("an address that is not verified, or not primary, opens nobody's account", async () => {
    const member = await server.newMember("owner");
    for (const emails of [
      [{ email: member.email, primary: true, verified: false }],
      [{ email: member.email, primary: false, verified: true }],
      [],
    ]) {
      const me = await (await signIn(newAccount({ emails, name: null }))).get("/me");
      expect(me.body.user_id).not.toBe(member.userId);
      expect(me.body).toMatchObject({
        access_required: true,
        display_name: expect.stringMatching(/^ada\d+$/),
      });
    }
  });

  test("two first sign-ins at the same time are one user", async () => {
    const account = newAccount({ emails: [] });
    const browsers = await Promise.all(Array.from({ length: 4 }, () => signIn(account)));
    expect(new Set(await Promise.all(browsers.map(userId))).size).toBe(1);
  });
});

describe("the browser", () => {
  test("is known by a short-lived cookie, which a second start keeps", async () => {
    const browser = newBrowser(server);
    const started = await browser.post("/auth/github/start");
    const [cookie] = started.headers.getSetCookie().map(parseSetCookie);
    expect(cookie).toMatchObject({
      name: "__Host-helmr_oauth",
      attributes: { path: "/", "max-age": "600", httponly: true, samesite: "Lax", secure: true },
    });
    const first = await github.agree(started.body.redirect_url, newAccount());
    const second = await github.agree(await start(browser), newAccount());
    for (const callback of [second, first]) {
      expect((await browser.post("/auth/github/finish", callback)).status).toBe(200);
    }
  });

  test("must be the one that began: another one is refused, and the right one is not disturbed", async () => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser), newAccount());
    const other = newBrowser(server);
    await start(other);
    for (const wrong of [other, newBrowser(server)]) {
      const answer = await wrong.post("/auth/github/finish", callback);
      expect(answer).toMatchObject({ status: 400, body: { error: /start again/ } });
      expect(answer.headers.getSetCookie()).toEqual([]);
    }
    expect((await browser.post("/auth/github/finish", callback)).status).toBe(200);
  });

  test("must come from our page", async () => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser), newAccount());
    for (const path of ["/auth/github/start", "/auth/github/finish"]) {
      const body = path.endsWith("start") ? {} : callback;
      expect((await browser.post(path, body, { origin: "https://evil.example" })).status).toBe(403);
    }
    expect((await browser.post("/auth/github/finish", callback)).status).toBe(200);
  });
});

describe("a callback", () => {
  test("counts once, also when it comes many times at once", async () => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser), newAccount());
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => browser.post("/auth/github/finish", callback)),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400, 400]);
    expect((await browser.post("/auth/github/finish", callback)).status).toBe(400);
  });

  test("expires after 10 minutes", async () => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser), newAccount());
    const { rows } = await sql<{ minutes: number }>`
      select extract(epoch from expires_at - created_at)::float8 / 60 as minutes from oauth_attempts
      order by created_at desc limit 1`.execute(server.db);
    expect(rows).toEqual([{ minutes: 10 }]);
    await sql`update oauth_attempts set expires_at = now() - interval '1 second'`.execute(server.db);
    expect((await browser.post("/auth/github/finish", callback)).status).toBe(400);
  });

  test("with another sign-in's code is refused by the verifier (PKCE)", async () => {
    const [victim, attacker] = [newBrowser(server), newBrowser(server)];
    const mine = await github.agree(await start(attacker), newAccount());
    const theirs = await github.agree(await start(victim), newAccount());
    const answer = await victim.post("/auth/github/finish", { code: mine.code, state: theirs.state });
    expect(answer).toMatchObject({ status: 400, body: { error: /start again/ } });
  });

  test.each([
    {},
    { code: "x" },
    { code: "", state: "A".repeat(43) },
    { code: "x", state: "short" },
    { code: "x", state: "A".repeat(43) },
    { code: "x".repeat(5000), state: "A".repeat(43) },
    { code: "x", state: "A".repeat(43), iss: "https://github.com" },
  ])("400 for %j", async (body) => {
    expect((await newBrowser(server).post("/auth/github/finish", body)).status).toBe(400);
  });

  test("does not lead elsewhere", async () => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser, "//evil.example"), newAccount());
    expect((await browser.post("/auth/github/finish", callback)).body).toEqual({ redirect_after: "/" });
  });
});

describe("when GitHub fails", () => {
  const finishAfter = async (fail: () => void) => {
    const browser = newBrowser(server);
    const callback = await github.agree(await start(browser), newAccount());
    fail();
    const answer = await browser.post("/auth/github/finish", callback);
    expect(answer.headers.getSetCookie()).toEqual([]);
    return answer;
  };

  test.each([
    { status: 500, body: "oops" },
    { status: 200, body: "<html>" },
    { status: 200, body: "{}" },
    { status: 302, body: "" },
    { status: 404, body: "" },
  ])("502 for %j", async (failure) => {
    const answer = await finishAfter(() => {
      github.failWith = failure;
    });
    expect(answer).toMatchObject({ status: 502, body: { error: /try again/ } });
  });

  test("a code that it does not take is a 400", async () => {
    const browser = newBrowser(server);
    const { state } = await github.agree(await start(browser), newAccount());
    const answer = await browser.post("/auth/github/finish", { code: "made-up", state });
    expect(answer).toMatchObject({ status: 400, body: { error: /start again/ } });
  });

  test("a client secret that it does not take is the server's matter, and is not told", async () => {
    const wrong = await startTestServer({
      github: { url: github.url, clientId: github.clientId, clientSecret: "wrong-secret" },
    });
    try {
      const browser = newBrowser(wrong);
      const started = await browser.post("/auth/github/start");
      const callback = await github.agree(started.body.redirect_url, newAccount());
      const answer = await browser.post("/auth/github/finish", callback);
      expect(answer).toMatchObject({ status: 502, body: { error: /tell who runs this server/ } });
      expect(answer.body.error).not.toContain("wrong-secret");
    } finally {
      await wrong.stop();
    }
  });

  test("nobody there", async () => {
    const wrong = await startTestServer({
      github: { url: "http://127.0.0.1:1", clientId: "x", clientSecret: "y" },
    });
    try {
      const browser = newBrowser(wrong);
      const { body } = await browser.post("/auth/github/start");
      const state = new URL(body.redirect_url).searchParams.get("state");
      expect((await browser.post("/auth/github/finish", { code: "x", state })).status).toBe(502);
    } finally {
      await wrong.stop();
    }
  });

  test("the log says what happened, without code, verifier, secret or token", async () => {
    const lines: string[] = [];
    const logger = pino({ level: "debug" }, { write: (line: string) => lines.push(line) });
    const { url, clientId, clientSecret } = github;
    const provider = createGitHubProvider({ url, clientId, clientSecret }, logger);
    const request = {
      redirectUri: "https://helmr.example/auth/github/callback",
      state: "A".repeat(43),
      codeVerifier: "hidden-verifier",
      nonce: undefined,
    };
    const { code } = await github.agree(await provider.authorizationUrl(request), newAccount());
    for (const failure of [
      undefined,
      { status: 500, body: `oops ${code}` },
      { status: 200, body: `access_token=${code}` },
    ]) {
      github.failWith = failure;
      github.hangingPaths.clear();
      const apiUrl = failure === undefined ? `${url}/nothing` : url;
      const failing = createGitHubProvider({ url, apiUrl, clientId, clientSecret }, logger);
      await expect(failing.identify({ ...request, code, iss: undefined })).rejects.toMatchObject({
        status: 502,
      });
    }
    expect(lines.length).toBeGreaterThan(2);
    for (const secret of [code, "hidden-verifier", clientSecret, "gho_"]) {
      expect(lines.join()).not.toContain(secret);
    }
  });

  test("an answer that does not come is given up", async () => {
    const answer = await finishAfter(() => github.hangingPaths.add("/api/v3/user"));
    expect(answer.status).toBe(502);
  });
});

test("is offered where it is set up, and refused where not", async () => {
  expect((await newBrowser(server).get("/auth/providers")).body).toMatchObject({ github: true });
  const other = await startTestServer();
  try {
    for (const [path, body] of [
      ["/auth/github/start", {}],
      ["/auth/github/finish", { code: "x", state: "A".repeat(43) }],
      ["/auth/oidc/start", {}],
    ] as const) {
      const answer = await newBrowser(other).post(path, body);
      expect(answer).toMatchObject({ status: 400, body: { error: /not set up/ } });
    }
  } finally {
    await other.stop();
  }
});
