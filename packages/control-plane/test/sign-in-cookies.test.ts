/** What every sign-in has in common: its cookie, rotation, other sites, and where it leads. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { redirectAfter } from "../src/sign-in/redirect-after.ts";
import { newBrowser, parseSetCookie } from "./support/browser.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { newLink, signedInBrowser } from "./support/sign-in.ts";

const publicUrl = "https://helmr.example";
const cookieName = "__Host-helmr_session";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ publicUrl, magicLinkDebugUrls: true });
});
afterAll(() => server.stop());

let count = 0;
const freshEmail = () => `ada${++count}@example.com`;

describe("the cookie", () => {
  test("of https: __Host-, Secure, HttpOnly, Lax, 30 days", async () => {
    const token = await newLink(server, freshEmail());
    const { headers } = await newBrowser(server).post("/auth/magic-link/finish", { token });
    const [cookie, ...others] = headers.getSetCookie().map(parseSetCookie);
    expect(others).toEqual([]);
    expect(cookie?.name).toBe(cookieName);
    expect(cookie?.value).toMatch(/^(?!hlmr_)[A-Za-z0-9_-]{40,}$/);
    expect(cookie?.attributes).toEqual({
      path: "/",
      "max-age": String(30 * 86_400),
      httponly: true,
      samesite: "Lax",
      secure: true,
    });
  });

  test("of http: another name, without Secure", async () => {
    const other = await startTestServer({ magicLinkDebugUrls: true });
    try {
      const browser = newBrowser(other);
      const { body } = await browser.post("/auth/magic-link/start", { email: "ada@example.com" });
      const token = new URL(body.debug_url).searchParams.get("token");
      const { headers } = await browser.post("/auth/magic-link/finish", { token });
      const [cookie] = headers.getSetCookie().map(parseSetCookie);
      expect(cookie?.name).toBe("helmr_session_dev");
      expect(cookie?.attributes).toEqual({
        path: "/",
        "max-age": String(30 * 86_400),
        httponly: true,
        samesite: "Lax",
      });
    } finally {
      await other.stop();
    }
  });

  test("is another one after each sign-in, and the one before is worth nothing (rotation)", async () => {
    const browser = await signedInBrowser(server, freshEmail());
    const before = browser.cookies.get(cookieName);
    const elsewhere = await signedInBrowser(server, freshEmail());
    await browser.post("/auth/magic-link/finish", { token: await newLink(server, freshEmail()) });
    const after = browser.cookies.get(cookieName);
    expect(after).not.toBe(before);
    expect((await browser.get("/me")).status).toBe(200);
    expect((await newBrowser(server).get("/me", { cookie: `${cookieName}=${before}` })).status).toBe(401);
    expect((await elsewhere.get("/me")).status).toBe(200);
  });

  test("is sent again to the page that asks who is signed in, and to nobody else", async () => {
    const browser = await signedInBrowser(server, freshEmail());
    const token = browser.cookies.get(cookieName);
    const [cookie] = (await browser.get("/me")).headers.getSetCookie().map(parseSetCookie);
    expect(cookie).toMatchObject({
      name: cookieName,
      value: token,
      attributes: { "max-age": String(30 * 86_400), secure: true, httponly: true },
    });
    const byBearer = await server.request("GET", "/me", undefined, { key: token ?? null });
    expect([byBearer.status, byBearer.headers.getSetCookie()]).toEqual([200, []]);
  });

  test("is not rotated away by a sign-in that fails", async () => {
    const browser = await signedInBrowser(server, freshEmail());
    expect((await browser.post("/auth/magic-link/finish", { token: "A".repeat(43) })).status).toBe(400);
    expect((await browser.get("/me")).status).toBe(200);
  });
});

describe("other sites", () => {
  test("cannot sign a visitor in, by a form or a script", async () => {
    const token = await newLink(server, freshEmail());
    for (const headers of [
      { origin: "https://evil.example" },
      { origin: "null" },
      { origin: "https://helmr.example.evil.example" },
    ]) {
      const answer = await newBrowser(server).post("/auth/magic-link/finish", { token }, headers);
      expect(answer.status).toBe(403);
      expect(answer.headers.getSetCookie()).toEqual([]);
    }
    const withoutOrigin = (headers: Record<string, string>) =>
      server.request("POST", "/auth/magic-link/finish", { token }, { key: null, headers });
    expect((await withoutOrigin({ "sec-fetch-site": "cross-site" })).status).toBe(403);
    expect((await withoutOrigin({ "sec-fetch-site": "same-site" })).status).toBe(403);
    expect((await withoutOrigin({})).status).toBe(200);
  });

  test.each([
    "https://evil.example",
    "//evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "javascript:alert(1)",
    "evil",
    "",
    " /x",
    "/\ud800",
  ])("are not where a sign-in leads: %j", async (next) => {
    const email = freshEmail();
    const answer = await newBrowser(server).post("/auth/magic-link/start", { email, next });
    expect(answer.status).toBe(200);
    const { redirect_after } = await server.db
      .selectFrom("magic_links")
      .select("redirect_after")
      .where("email", "=", email)
      .executeTakeFirstOrThrow();
    expect(redirect_after).toBe("/");
  });

  test("for any wish, as a browser resolves it", () => {
    const pieces = fc.constantFrom(
      "/",
      "\\",
      "\t",
      "\n",
      "@",
      ":",
      "evil.example",
      "..",
      "%2f",
      "?",
      "#",
      "https:",
      " ",
    );
    const wish = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.array(pieces, { maxLength: 8 }).map((list) => list.join("")),
    );
    fc.assert(
      fc.property(wish, (text) => {
        expect(new URL(redirectAfter(text), publicUrl).origin).toBe(publicUrl);
        expect(new URL(redirectAfter(`/${text}`), publicUrl).origin).toBe(publicUrl);
      }),
      { numRuns: 2000 },
    );
    expect(redirectAfter("/projects/a?b=c#d")).toBe("/projects/a?b=c#d");
  });
});
