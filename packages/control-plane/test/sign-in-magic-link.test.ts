/** Sign-in by e-mail through a real SMTP server. */
import { createMailer, type Mailer } from "@helmr/control-plane";
import { seedMember } from "@helmr/store/testing";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newBrowser } from "./support/browser.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { newLink } from "./support/sign-in.ts";
import { decodedText, startTestSmtp, type TestSmtp } from "./support/smtp.ts";

const publicUrl = "https://helmr.example";
const cookieName = "__Host-helmr_session";

let smtp: TestSmtp;
let mailer: Mailer;
let server: TestServer;
beforeAll(async () => {
  smtp = await startTestSmtp({
    refuseRecipient: (address) => (address.startsWith("nobody") ? 550 : undefined),
  });
  const url = `smtp://127.0.0.1:${smtp.port}`;
  mailer = createMailer({ kind: "smtp", url, from: "helmr@example.com" }, pino({ level: "silent" }));
  server = await startTestServer({ mailer, publicUrl });
});
afterAll(async () => {
  await server.stop();
  await mailer.close();
  await smtp.stop();
});

let count = 0;
const freshEmail = () => `ada${++count}@example.com`;

/** The token out of the message that the address is sent. */
async function askForLink(email: string, next?: string): Promise<string> {
  const answer = await newBrowser(server).post("/auth/magic-link/start", { email, ...(next && { next }) });
  expect(answer).toMatchObject({ status: 200, body: { sent: true } });
  const text = decodedText(await smtp.messageTo(email.trim().toLowerCase()));
  const token = /https:\/\/helmr\.example\/auth\/magic-link\?token=([A-Za-z0-9_-]{43})\s/.exec(text)?.[1];
  if (token === undefined) throw new Error(`no link in: ${text}`);
  return token;
}

describe("a link by e-mail", () => {
  test("signs in whom it was sent to; the first time makes the user", async () => {
    const email = freshEmail();
    const token = await askForLink(`  ${email.toUpperCase()} `, "/auth/device?code=ABCD-EFGH");
    const browser = newBrowser(server);
    const finished = await browser.post("/auth/magic-link/finish", { token });
    expect(finished).toMatchObject({
      status: 200,
      body: { redirect_after: "/auth/device?code=ABCD-EFGH" },
    });
    const me = await browser.get("/me");
    expect(me).toMatchObject({ status: 200, body: { display_name: email.split("@")[0] } });
    const { rows } = await sql<{ action: string; actor_label: string; address: string }>`
      select action, actor_label, address from audit_log where actor_id = ${me.body.user_id} order by id`.execute(
      server.db,
    );
    expect(rows).toEqual(
      ["user.create", "user.sign_in"].map((action) => ({ action, actor_label: email, address: "127.0.0.1" })),
    );
  });

  test("gives a member a session that acts in their organization", async () => {
    const { userId, email } = await server.newMember("developer");
    const browser = newBrowser(server);
    await browser.post("/auth/magic-link/finish", { token: await askForLink(email) });
    expect((await browser.get("/me")).body).toMatchObject({
      user_id: userId,
      org_id: server.scope.organizationId,
      role: "developer",
    });
  });

  test("works once, also for many at the same time, and not when it was made up", async () => {
    const token = await askForLink(freshEmail());
    const finish = (body: object) => newBrowser(server).post("/auth/magic-link/finish", body);
    const answers = await Promise.all(Array.from({ length: 6 }, () => finish({ token })));
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400, 400, 400, 400]);
    for (const { status, body, headers } of answers) {
      if (status === 200) continue;
      expect(body.error).toContain("ask for a new one");
      expect(headers.getSetCookie()).toEqual([]);
    }
    for (const made of [token, "A".repeat(43), "short", "", 1]) {
      expect((await finish({ token: made })).status).toBe(400);
    }
  });

  test("two first links used at the same time make one user", async () => {
    const email = freshEmail();
    const tokens = [await askForLink(email), await newLink(server, email)];
    const statuses = await Promise.all(
      tokens.map(
        async (token) => (await newBrowser(server).post("/auth/magic-link/finish", { token })).status,
      ),
    );
    expect(statuses).toEqual([200, 200]);
    const { rows } = await sql`select from users where email = ${email}`.execute(server.db);
    expect(rows).toHaveLength(1);
  });

  test("expires after 15 minutes", async () => {
    const email = freshEmail();
    const token = await askForLink(email);
    const { rows } = await sql<{ minutes: number }>`
      select extract(epoch from expires_at - created_at)::float8 / 60 as minutes from magic_links where email = ${email}`.execute(
      server.db,
    );
    expect(rows).toEqual([{ minutes: 15 }]);
    await sql`update magic_links set expires_at = now() - interval '1 second' where email = ${email}`.execute(
      server.db,
    );
    expect((await newBrowser(server).post("/auth/magic-link/finish", { token })).status).toBe(400);
  });
});

describe("asking for a link", () => {
  test("answers the same for an address that is known, unknown or refused", async () => {
    const { email: known } = await server.newMember("owner");
    for (const email of [known, freshEmail(), `nobody${++count}@example.com`]) {
      const answer = await newBrowser(server).post("/auth/magic-link/start", { email });
      expect([answer.status, answer.body]).toEqual([200, { sent: true, email }]);
      expect(answer.headers.getSetCookie()).toEqual([]);
    }
  });

  test.each([
    "",
    "ada",
    "ada@",
    "@example.com",
    "a b@example.com",
    "ada@example.com\r\nBcc: x@example.com",
    1,
    null,
  ])("400 for the address %j", async (email) => {
    expect((await newBrowser(server).post("/auth/magic-link/start", { email })).status).toBe(400);
  });

  test("does not wait for the mail server, and shows no link", async () => {
    let answerMail = () => {};
    const send = () => new Promise<void>((resolve) => (answerMail = resolve));
    const hanging: Mailer = { delivers: true, send, close: async () => {} };
    const other = await startTestServer({ mailer: hanging });
    try {
      const answer = await newBrowser(other).post("/auth/magic-link/start", { email: "ada@example.com" });
      expect([answer.status, answer.body]).toEqual([200, { sent: true, email: "ada@example.com" }]);
    } finally {
      answerMail();
      await other.stop();
    }
  });

  test("without e-mail says so; with debug URLs shows the link instead", async () => {
    const other = await startTestServer();
    const debug = await startTestServer({ magicLinkDebugUrls: true });
    try {
      const refused = await newBrowser(other).post("/auth/magic-link/start", { email: "ada@example.com" });
      expect(refused).toMatchObject({ status: 400, body: { error: /not set up/ } });
      expect((await newBrowser(other).get("/auth/providers")).body).toEqual({
        email: false,
        github: false,
        local_owner: false,
      });
      expect((await newBrowser(debug).get("/auth/providers")).body.email).toBe(true);
      const browser = newBrowser(debug);
      const { body } = await browser.post("/auth/magic-link/start", { email: "ada@example.com" });
      const url = new URL(body.debug_url);
      expect(url.href).toMatch(/^http:\/\/127\.0\.0\.1\/auth\/magic-link\?token=/);
      const finished = await browser.post("/auth/magic-link/finish", {
        token: url.searchParams.get("token"),
      });
      expect(finished).toMatchObject({ status: 200, body: { redirect_after: "/" } });
    } finally {
      await Promise.all([other.stop(), debug.stop()]);
    }
  });
});

test("no token is in the database in clear", async () => {
  const token = await askForLink(freshEmail());
  const browser = newBrowser(server);
  await browser.post("/auth/magic-link/finish", { token });
  const { rows } = await sql<{ row: string }>`
    select t::text as row from magic_links t union all select t::text from user_sessions t
    union all select t::text from audit_log t union all select t::text from users t`.execute(server.db);
  const everything = JSON.stringify(rows);
  expect(everything).not.toContain(token);
  expect(everything).not.toContain(browser.cookies.get(cookieName));
});

test("a user of another organization signs in to their own", async () => {
  const { email, userId } = await seedMember(server.db, server.scope.organizationId, undefined);
  const browser = newBrowser(server);
  await browser.post("/auth/magic-link/finish", { token: await newLink(server, email) });
  const me = await browser.get("/me");
  expect(me.body).toMatchObject({ user_id: userId, access_required: true });
  expect(me.body.org_id).toBeUndefined();
});
