/** Sign-out, here and everywhere. */
import { createFolderStore } from "@helmr/artifacts";
import { createControlPlane } from "@helmr/control-plane";
import { createSecretCipher } from "@helmr/store";
import { sql } from "kysely";
import { pino } from "pino";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { newBrowser, parseSetCookie } from "./support/browser.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { signedInBrowser } from "./support/sign-in.ts";

const publicUrl = "https://helmr.example";
const cookieName = "__Host-helmr_session";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ publicUrl });
});
afterAll(() => server.stop());

let count = 0;
const freshEmail = () => `ada${++count}@example.com`;

describe("sign-out", () => {
  test("ends this session, clears the cookie, and does not look at the body", async () => {
    const browser = await signedInBrowser(server, freshEmail());
    const token = browser.cookies.get(cookieName);
    const answer = await fetch(`${server.url}/api/auth/logout`, {
      method: "POST",
      headers: { cookie: `${cookieName}=${token}`, origin: publicUrl },
      body: "{ no json",
    });
    expect(answer.status).toBe(204);
    const [cookie] = answer.headers.getSetCookie().map(parseSetCookie);
    expect(cookie).toMatchObject({ name: cookieName, value: "", attributes: { "max-age": "0", path: "/" } });
    expect((await browser.get("/me")).status).toBe(401);
    expect((await browser.post("/auth/logout")).status).toBe(401);
  });

  test("by bearer", async () => {
    const { token, userId } = await server.newMember("viewer");
    expect((await server.request("POST", "/auth/logout", undefined, { key: token })).status).toBe(204);
    expect((await server.request("GET", "/me", undefined, { key: token })).status).toBe(401);
    const { rows } = await sql<{ action: string }>`
      select action from audit_log where actor_id = ${userId} order by id desc limit 1`.execute(server.db);
    expect(rows).toEqual([{ action: "user.sign_out" }]);
  });

  test("is not for other sites, nor for who is not signed in", async () => {
    const browser = await signedInBrowser(server, freshEmail());
    for (const path of ["/auth/logout", "/auth/logout-everywhere"]) {
      expect((await browser.post(path, {}, { origin: "https://evil.example" })).status).toBe(403);
      expect((await newBrowser(server).post(path)).status).toBe(401);
    }
    expect((await browser.get("/me")).status).toBe(200);
  });

  test("everywhere ends every session of the user within a second, also where another process remembers it", async () => {
    const email = freshEmail();
    const [first, second] = [await signedInBrowser(server, email), await signedInBrowser(server, email)];
    const stranger = await signedInBrowser(server, freshEmail());
    const other = createControlPlane({
      db: server.db,
      bus: server.bus,
      artifacts: createFolderStore("/nonexistent"),
      secretCipher: createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") }),
      authSecret: Buffer.alloc(32, 9),
      config: { publicUrl },
      logger: pino({ level: "silent" }),
    });
    try {
      const url = await other.listen({ host: "127.0.0.1", port: 0 });
      const cookie = `${cookieName}=${second.cookies.get(cookieName)}`;
      const elsewhere = async () => (await fetch(`${url}/api/me`, { headers: { cookie } })).status;
      expect(await elsewhere()).toBe(200);
      const answer = await first.post("/auth/logout-everywhere");
      expect(answer.status).toBe(204);
      expect(answer.headers.getSetCookie()).toHaveLength(1);
      expect((await second.get("/me")).status).toBe(401);
      // What the other process remembers is at most a second old, however busy the session is.
      await vi.waitUntil(async () => (await elsewhere()) === 401, { timeout: 30_000 });
      expect((await stranger.get("/me")).status).toBe(200);
    } finally {
      await other.close();
    }
  });
});
