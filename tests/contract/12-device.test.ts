/** Contract 12: the device flow of the command line, sign-out, and who is signed in. */
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/identity-shapes.ts";
import { expectShape } from "./support/identity-shapes.ts";

let server: TestServer;
let owner: string;
beforeAll(async () => {
  server = await startTestServer();
  owner = (await server.newMember("owner")).token;
});
afterAll(() => server.stop());

const open = { key: null } as const;
const start = async () => (await server.request("POST", "/auth/device/start", {}, open)).body;
const poll = (body: object) => server.request("POST", "/auth/device/token", body, open);
const decide = (verb: string, user_code: string, key = owner) =>
  server.request("POST", `/auth/device/${verb}`, { user_code }, { key });
const status = (code: string) =>
  server.request("GET", `/auth/device/status?user_code=${encodeURIComponent(code)}`, undefined, {
    key: owner,
  });

describe("§12 device flow", () => {
  test("§12 start: 201, the body unread", async () => {
    for (const raw of ["{}", "", "no JSON", "[1]"]) {
      const answer = await server.request("POST", "/auth/device/start", undefined, { ...open, raw });
      expect(answer.status).toBe(201);
      expectShape(answer.body, shapes.deviceStart);
      expect(answer.body.verification_uri).toBe(`${server.publicUrl}/auth/device`);
      expect(answer.body.verification_uri_complete).toBe(
        `${server.publicUrl}/auth/device?code=${answer.body.user_code}`,
      );
    }
  });

  test("§12 pending: 202 authorization_pending; approved: 200 with the token, once", async () => {
    const { device_code, user_code } = await start();
    const pending = await poll({ device_code });
    expect([pending.status, pending.body]).toEqual([202, { error: "authorization_pending" }]);
    expect((await status(user_code)).body).toMatchObject({ status: "pending" });
    expect(await decide("approve", user_code)).toMatchObject({ status: 200, body: { status: "approved" } });
    expect((await status(user_code)).body).toMatchObject({ status: "approved" });
    const done = await poll({ device_code });
    expect(done.status).toBe(200);
    expectShape(done.body, shapes.deviceToken);
    expect((await status(user_code)).body).toMatchObject({ status: "consumed" });
    const again = await poll({ device_code });
    expect([again.status, ["invalid_request", "expired_token"].includes(again.body.error)]).toEqual([
      400,
      true,
    ]);
    const token = done.body.access_token;
    expect((await server.request("GET", "/me", undefined, { key: token })).status).toBe(200);
    expect((await server.request("GET", `${server.prefix}/runs`, undefined, { key: token })).status).toBe(
      200,
    );
  });

  test("§12 denied, expired and bad codes: 400 with the words of the flow", async () => {
    const denied = await start();
    expect(await decide("deny", denied.user_code)).toMatchObject({ status: 200, body: { status: "denied" } });
    expect(await poll({ device_code: denied.device_code })).toMatchObject({
      status: 400,
      body: { error: "access_denied" },
    });
    const expired = await start();
    const stored = expired.user_code.replace("-", "");
    await sql`update device_codes set expires_at = now() where user_code = ${stored}`.execute(server.db);
    expect(await poll({ device_code: expired.device_code })).toMatchObject({
      status: 400,
      body: { error: "expired_token" },
    });
    expect((await status(expired.user_code)).body).toMatchObject({ status: "expired" });
    for (const device_code of ["A".repeat(43), "", "x", "\0", "x".repeat(5000), undefined, 1, null]) {
      expect(await poll({ device_code })).toMatchObject({ status: 400, body: { error: "invalid_request" } });
    }
  });

  test("§12 a user code is found in any case, with spaces and dashes", async () => {
    const { user_code } = await start();
    for (const typed of [
      user_code.toLowerCase(),
      user_code.replace("-", ""),
      ` ${user_code.replace("-", " - ")} `,
    ]) {
      expect(await status(typed)).toMatchObject({ status: 200, body: { status: "pending" } });
    }
  });

  test("§12 unknown user code → 404; approve and deny need a session with an organization", async () => {
    expect((await status("ABCD-2345")).status).toBe(404);
    for (const verb of ["approve", "deny"]) {
      expect((await decide(verb, "ABCD-2345")).status).toBe(404);
      const { token } = await server.newMember(undefined);
      expect((await decide(verb, (await start()).user_code, token)).status).toBe(403);
    }
  });
});

describe("§12 sessions", () => {
  test("§12 logout: 204, the cookie is cleared, the session is over at once; the body is ignored", async () => {
    for (const how of ["bearer", "cookie"]) {
      const { token } = await server.newMember("viewer");
      const options =
        how === "bearer"
          ? { key: token }
          : { key: null, headers: { cookie: `helmr_session_dev=${token}`, origin: server.publicUrl } };
      const me = () => server.request("GET", "/me", undefined, options);
      expect((await me()).status).toBe(200);
      const out = await server.request("POST", "/auth/logout", undefined, { ...options, raw: "no JSON" });
      expect([out.status, out.body]).toEqual([204, ""]);
      expect(out.headers.get("set-cookie")).toMatch(
        /^helmr_session_dev=;.*(Max-Age=0|Expires=Thu, 01 Jan 1970)/i,
      );
      expect((await me()).status).toBe(401);
    }
  });

  test("§12 me: what a member of every role and what a user without organization is told", async () => {
    for (const role of ["owner", "admin", "developer", "viewer"] as const) {
      const { token } = await server.newMember(role);
      const { body } = await server.request("GET", "/me", undefined, { key: token });
      expectShape(body, shapes.me);
      expect(body).toMatchObject({ role, org_id: server.scope.organizationId, organization_required: false });
      expect(body.permissions.includes("secrets.write")).toBe(role === "owner" || role === "admin");
      expect(body.permissions.includes("runs.create")).toBe(role !== "viewer");
      expect(body.permissions.includes("runs.read")).toBe(true);
    }
    const { token } = await server.newMember(undefined);
    const { body } = await server.request("GET", "/me", undefined, { key: token });
    expectShape(body, shapes.me);
    for (const absent of ["org_id", "org_name", "org_slug", "role"]) expect(body).not.toHaveProperty(absent);
    expect(body).toMatchObject({ permissions: [], access_required: true });
  });
});
