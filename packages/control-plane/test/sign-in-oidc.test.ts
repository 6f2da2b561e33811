/** Sign-in with OpenID Connect, against a real provider through its own login and consent pages. */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createFolderStore } from "@helmr/artifacts";
import { createControlPlane } from "@helmr/control-plane";
import { createSecretCipher } from "@helmr/store";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createOidcProvider } from "../src/sign-in/oidc.ts";
import { type Browser, newBrowser } from "./support/browser.ts";
import { startTestOidc, type TestOidc } from "./support/oidc.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

const publicUrl = "https://helmr.example";
const redirectUri = `${publicUrl}/auth/oidc/callback`;

let oidc: TestOidc;
let server: TestServer;
beforeAll(async () => {
  oidc = await startTestOidc({ redirectUri });
  server = await startServerFor(oidc);
});
afterAll(async () => {
  await server.stop();
  await oidc.stop();
});

const startServerFor = ({ issuer, clientId, clientSecret }: TestOidc) =>
  startTestServer({ publicUrl, oidc: { issuer, clientId, clientSecret, displayName: "Example ID" } });

let count = 0;
function newAccount(claims: Record<string, unknown> = {}, at = oidc): string {
  const subject = `subject-${++count}`;
  at.accounts.set(subject, {
    email: `Ada${count}@example.com`,
    email_verified: true,
    name: "Ada L",
    ...claims,
  });
  return subject;
}

async function start(browser: Browser, next?: string): Promise<string> {
  const answer = await browser.post("/auth/oidc/start", next === undefined ? {} : { next });
  expect(answer.status).toBe(200);
  return answer.body.redirect_url;
}

async function signIn(subject: string): Promise<Browser> {
  const browser = newBrowser(server);
  const callback = await oidc.agree(await start(browser), subject);
  const answer = await browser.post("/auth/oidc/finish", callback);
  expect([answer.status, answer.body]).toEqual([200, { redirect_after: "/" }]);
  return browser;
}

const userId = async (browser: Browser) => (await browser.get("/me")).body.user_id;

/** Stands before the provider under an address of its own, and fails or hangs as it is told, by path. */
async function startRelay(how: (path: string) => "pass" | "fail" | "hang") {
  const relay = createServer(async (request, response) => {
    const path = request.url ?? "";
    const what = how(path);
    if (what === "hang") return;
    if (what === "fail") return response.writeHead(500).end("oops");
    const answer = await fetch(`${oidc.issuer}${path}`);
    const text = (await answer.text()).replaceAll(oidc.issuer, url);
    response.writeHead(answer.status, { "content-type": "application/json" }).end(text);
  }).listen(0, "127.0.0.1");
  await once(relay, "listening");
  const url = `http://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  const stop = async () => {
    relay.closeAllConnections();
    relay.close();
    await once(relay, "close");
  };
  return { url, stop };
}

describe("who signs in", () => {
  test("the first time makes the user; later times find it", async () => {
    const subject = newAccount({ picture: "https://pictures.example/ada" });
    const browser = newBrowser(server);
    const callback = await oidc.agree(await start(browser, "/auth/device?code=A"), subject);
    const finished = await browser.post("/auth/oidc/finish", callback);
    expect(finished).toMatchObject({ status: 200, body: { redirect_after: "/auth/device?code=A" } });
    const me = await browser.get("/me");
    expect(me.body).toMatchObject({
      display_name: "Ada L",
      profile_image_url: "https://pictures.example/ada",
    });
    expect(await userId(await signIn(subject))).toBe(me.body.user_id);
    const identity = await server.db
      .selectFrom("user_identities")
      .selectAll()
      .where("user_id", "=", me.body.user_id)
      .executeTakeFirstOrThrow();
    expect(identity).toMatchObject({ provider: "oidc", issuer: oidc.issuer, subject });
  });

  test("only a verified address leads to a member", async () => {
    const member = await server.newMember("owner");
    for (const claims of [
      { email_verified: false },
      { email_verified: "true" },
      { email_verified: undefined },
      { email: undefined },
    ]) {
      const browser = await signIn(newAccount({ email: member.email, ...claims }));
      expect((await browser.get("/me")).body).toMatchObject({ access_required: true });
    }
    expect(await userId(await signIn(newAccount({ email: member.email.toUpperCase() })))).toBe(member.userId);
  });

  test("a picture that is not https, a name of no text and an address that is none do no harm", async () => {
    const browser = await signIn(newAccount({ picture: "javascript:alert(1)", name: " ", email: 1 }));
    const { body } = await browser.get("/me");
    expect(body.profile_image_url).toBe("");
    expect(body.display_name).toMatch(/^oidc subject-/);
  });

  test.each([{ claimsInIdToken: true }, { secretInBody: true }])(
    "with a provider that has %j",
    async (how) => {
      const other = await startTestOidc({ redirectUri, ...how });
      const with_ = await startServerFor(other);
      try {
        const subject = newAccount({}, other);
        const browser = newBrowser(with_);
        const { body } = await browser.post("/auth/oidc/start");
        const callback = await other.agree(body.redirect_url, subject);
        expect((await browser.post("/auth/oidc/finish", callback)).status).toBe(200);
        const user = await with_.db.selectFrom("users").select("email").executeTakeFirstOrThrow();
        expect(user.email).toBe(`ada${count}@example.com`);
      } finally {
        await with_.stop();
        await other.stop();
      }
    },
  );
});

describe("a callback", () => {
  test("asks with PKCE, state and nonce", async () => {
    const query = new URL(await start(newBrowser(server))).searchParams;
    expect(query.get("code_challenge_method")).toBe("S256");
    for (const name of ["state", "nonce", "code_challenge"]) {
      expect(query.get(name)).toMatch(/^[A-Za-z0-9_-]{43}$/);
    }
    expect(query.get("redirect_uri")).toBe(redirectUri);
    expect(query.get("scope")).toBe("openid email profile");
  });

  test("counts once, in the browser that began", async () => {
    const browser = newBrowser(server);
    const callback = await oidc.agree(await start(browser), newAccount());
    const other = newBrowser(server);
    await start(other);
    expect((await other.post("/auth/oidc/finish", callback)).status).toBe(400);
    expect((await browser.post("/auth/github/finish", { ...callback, iss: undefined })).status).toBe(400);
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => browser.post("/auth/oidc/finish", callback)),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400]);
  });

  test("with another sign-in's code is refused by verifier and nonce", async () => {
    const [victim, attacker] = [newBrowser(server), newBrowser(server)];
    const mine = await oidc.agree(await start(attacker), newAccount());
    const theirs = await oidc.agree(await start(victim), newAccount());
    const answer = await victim.post("/auth/oidc/finish", { ...theirs, code: mine.code });
    expect(answer).toMatchObject({ status: 400, body: { error: /start again/ } });
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  test("whose nonce was replaced is refused", async () => {
    const browser = newBrowser(server);
    const url = new URL(await start(browser));
    url.searchParams.set("nonce", "A".repeat(43));
    const callback = await oidc.agree(url.href, newAccount());
    const answer = await browser.post("/auth/oidc/finish", callback);
    expect([400, 502]).toContain(answer.status);
    expect(answer.headers.getSetCookie()).toEqual([]);
  });

  test("of another issuer, or of none where the provider names itself, is refused", async () => {
    for (const iss of ["https://evil.example", undefined]) {
      const browser = newBrowser(server);
      const callback = await oidc.agree(await start(browser), newAccount());
      const answer = await browser.post("/auth/oidc/finish", { ...callback, iss });
      expect(answer).toMatchObject({ status: 400, body: { error: /another provider/ } });
    }
  });

  test("with a made-up code is a 400", async () => {
    const browser = newBrowser(server);
    const callback = await oidc.agree(await start(browser), newAccount());
    const answer = await browser.post("/auth/oidc/finish", { ...callback, code: "made-up" });
    expect(answer).toMatchObject({ status: 400, body: { error: /Example ID.*start again/ } });
  });

  test("of somebody who declined has an error and no code", async () => {
    const returned = await oidc.decline(await start(newBrowser(server)));
    expect(returned.get("error")).toBe("access_denied");
    expect(returned.get("code")).toBeNull();
  });
});

describe("the provider", () => {
  test("is asked for its metadata once", async () => {
    await signIn(newAccount());
    await signIn(newAccount());
    expect(oidc.requests.get("/.well-known/openid-configuration")).toBe(1);
  });

  test("that fails is a 502, and is asked again when it is back", async () => {
    let isDown = true;
    const relay = await startRelay(() => (isDown ? "fail" : "pass"));
    const other = await startTestServer({
      oidc: { issuer: relay.url, clientId: "helmr", clientSecret: "x" },
    });
    try {
      const ask = () => newBrowser(other).post("/auth/oidc/start");
      expect(await ask()).toMatchObject({ status: 502, body: { error: /try again/ } });
      isDown = false;
      expect((await ask()).status).toBe(200);
    } finally {
      await other.stop();
      await relay.stop();
    }
  });

  test("that does not answer is given up", async () => {
    const relay = await startRelay((path) => (path === "/token" ? "hang" : "pass"));
    const other = await startTestServer({
      oidc: { issuer: relay.url, clientId: "helmr", clientSecret: "x" },
    });
    try {
      const browser = newBrowser(other);
      const { body } = await browser.post("/auth/oidc/start");
      const state = new URL(body.redirect_url).searchParams.get("state");
      const answer = await browser.post("/auth/oidc/finish", { code: "x", state, iss: relay.url });
      expect(answer).toMatchObject({ status: 502, body: { error: /try again/ } });
    } finally {
      await other.stop();
      await relay.stop();
    }
  });

  test("that does not take our secret is the server's matter", async () => {
    const { issuer, clientId } = oidc;
    const other = await startTestServer({
      publicUrl,
      oidc: { issuer, clientId, clientSecret: "wrong-secret-0123456789abcdefghijkl" },
    });
    try {
      const browser = newBrowser(other);
      const { body } = await browser.post("/auth/oidc/start");
      const callback = await oidc.agree(body.redirect_url, newAccount());
      const answer = await browser.post("/auth/oidc/finish", callback);
      expect(answer).toMatchObject({ status: 502, body: { error: /tell who runs this server/ } });
      expect(answer.body.error).not.toContain("wrong-secret");
    } finally {
      await other.stop();
    }
  });

  test("is shown by its name, or its host", async () => {
    expect((await newBrowser(server).get("/auth/providers")).body.oidc).toEqual({
      display_name: "Example ID",
    });
  });

  test.each(["http://id.example.com", "id.example.com", "ftp://127.0.0.1", "http://127.0.0.1.example.com"])(
    "%s is refused at start",
    (issuer) => {
      const config = { issuer, clientId: "helmr", clientSecret: "x" };
      expect(() => createOidcProvider(config, pino({ level: "silent" }))).toThrow(/HELMR_OIDC_ISSUER/);
    },
  );

  test("with wrong settings keeps the server from starting", async () => {
    const oidc = { issuer: "http://id.example.com", clientId: "x", clientSecret: "y" };
    const controlPlane = createControlPlane({
      db: server.db,
      bus: server.bus,
      artifacts: createFolderStore("/nonexistent"),
      secretCipher: createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") }),
      authSecret: Buffer.alloc(32, 9),
      config: { publicUrl, oidc },
      logger: pino({ level: "silent" }),
    });
    await expect(controlPlane.listen({ host: "127.0.0.1", port: 0 })).rejects.toThrow(/HELMR_OIDC_ISSUER/);
    await controlPlane.close();
  });
});
