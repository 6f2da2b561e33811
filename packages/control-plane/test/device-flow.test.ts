/** The device flow (contract 12): every answer, its races, and what the session may do that comes of it. */
import { revokeUserSessions, sweepIdentity, systemActor } from "@helmr/store";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
let owner: string;
beforeAll(async () => {
  server = await startTestServer({ publicUrl: "https://helmr.example.com/" });
  owner = (await server.newMember("owner")).token;
});
afterAll(() => server.stop());

const open = { key: null } as const;
const start = async () => (await server.request("POST", "/auth/device/start", {}, open)).body;
const poll = async (deviceCode: unknown) => {
  const { status, body } = await server.request(
    "POST",
    "/auth/device/token",
    { device_code: deviceCode },
    open,
  );
  return [status, body.error ?? body];
};
const decide = (verb: "approve" | "deny", userCode: string, token = owner) =>
  server.request("POST", `/auth/device/${verb}`, { user_code: userCode }, { key: token });
const statusOf = async (userCode: string) =>
  await server.request("GET", `/auth/device/status?user_code=${encodeURIComponent(userCode)}`, undefined, {
    key: owner,
  });
/** Polls again at once are too fast: let the interval pass. */
const letIntervalPass = () =>
  sql`update device_codes set last_polled_at = last_polled_at - make_interval(secs => interval_seconds)`.execute(
    server.db,
  );
const expire = (userCode: string) =>
  sql`update device_codes set expires_at = now() where user_code = ${userCode.replace("-", "")}`.execute(
    server.db,
  );

describe("start", () => {
  test("gives both codes; its body is not read", async () => {
    const first = await start();
    expect(first).toEqual({
      device_code: expect.stringMatching(/^[A-Za-z0-9_-]{43}$/),
      user_code: expect.stringMatching(/^[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}$/),
      verification_uri: "https://helmr.example.com/auth/device",
      verification_uri_complete: `https://helmr.example.com/auth/device?code=${first.user_code}`,
      expires_in_seconds: 600,
      interval_seconds: 5,
    });
    for (const raw of ["", "not json", '{"unknown":1}']) {
      const answer = await server.request("POST", "/auth/device/start", undefined, { ...open, raw });
      expect(answer.status).toBe(201);
    }
  });

  test("keeps no device code", async () => {
    const { device_code: code } = await start();
    const { rows } = await sql<{ text: string }>`select device_codes::text as text from device_codes`.execute(
      server.db,
    );
    expect(JSON.stringify(rows)).not.toContain(code);
  });

  test("is refused while 10,000 wait, and only then", async () => {
    const fill = (count: number, expires: string) =>
      sql`insert into device_codes (id, device_code_hash, user_code, status, interval_seconds, expires_at)
        select gen_random_uuid(), decode(md5(${expires} || n), 'hex'), ${expires} || n, 'pending', 5, now() + ${expires}::interval
        from generate_series(1, ${count}::integer) n`.execute(server.db);
    await fill(10_000, "-1 minute");
    expect((await server.request("POST", "/auth/device/start", {}, open)).status).toBe(201);
    await fill(10_000, "1 minute");
    const refused = await server.request("POST", "/auth/device/start", {}, open);
    expect([refused.status, refused.body.error]).toEqual([503, expect.stringMatching(/try again/)]);
    await sql`delete from device_codes where length(user_code) > 8`.execute(server.db);
    expect((await server.request("POST", "/auth/device/start", {}, open)).status).toBe(201);
  });
});

describe("token", () => {
  test("is pending, then given once, for a session of the approver in the approver's organization", async () => {
    const approver = await server.newMember("developer");
    const { device_code: deviceCode, user_code: userCode } = await start();
    expect(await poll(deviceCode)).toEqual([202, "authorization_pending"]);
    expect((await decide("approve", userCode, approver.token)).body).toEqual({ status: "approved" });
    const [status, granted] = await poll(deviceCode);
    expect([status, granted]).toEqual([
      200,
      {
        access_token: expect.stringMatching(/^(?!hlmr_sk_)[A-Za-z0-9_-]{40,}$/),
        token_type: "bearer",
        expires_in_seconds: 30 * 86_400,
      },
    ]);
    expect(await poll(deviceCode)).toEqual([400, "invalid_request"]);
    expect((await statusOf(userCode)).body.status).toBe("consumed");

    const me = await server.request("GET", "/me", undefined, { key: granted.access_token });
    expect(me.body).toMatchObject({
      user_id: approver.userId,
      org_id: server.scope.organizationId,
      role: "developer",
    });
    const { rows } = await sql`select kind, organization_id from user_sessions
      where user_id = ${approver.userId} order by created_at desc limit 1`.execute(server.db);
    expect(rows).toEqual([{ kind: "cli", organization_id: server.scope.organizationId }]);
    const audit = await sql`select action, actor_id, actor_label from audit_log
      where actor_id = ${approver.userId} and action in ('device.approve', 'user.sign_in')
      order by id desc limit 2`.execute(server.db);
    expect(audit.rows).toEqual([
      { action: "user.sign_in", actor_id: approver.userId, actor_label: approver.email },
      { action: "device.approve", actor_id: approver.userId, actor_label: approver.email },
    ]);
  });

  test("asks whoever polls too fast to slow down, each time by 5 s more", async () => {
    const { device_code: deviceCode, user_code: userCode } = await start();
    expect(await poll(deviceCode)).toEqual([202, "authorization_pending"]);
    expect(await poll(deviceCode)).toEqual([202, "slow_down"]);
    expect(await poll(deviceCode)).toEqual([202, "slow_down"]);
    await sql`update device_codes set last_polled_at = last_polled_at - interval '6 seconds'`.execute(
      server.db,
    );
    expect(await poll(deviceCode)).toEqual([202, "slow_down"]);
    await letIntervalPass();
    expect(await poll(deviceCode)).toEqual([202, "authorization_pending"]);
    const { rows } = await sql`select interval_seconds from device_codes
      where user_code = ${userCode.replace("-", "")}`.execute(server.db);
    expect(rows).toEqual([{ interval_seconds: 20 }]);
  });

  test.each([
    ["unknown", "x".repeat(43)],
    ["malformed", "\0"],
    ["empty", ""],
  ])("of an %s code is an invalid request", async (_name, deviceCode) => {
    expect(await poll(deviceCode)).toEqual([400, "invalid_request"]);
  });

  test.each([[{}], [{ device_code: 1 }], [{ device_code: "x", more: 1 }], [undefined]])(
    "refuses %j",
    async (body) => {
      expect((await server.request("POST", "/auth/device/token", body, open)).status).toBe(400);
    },
  );

  test("of a denied code is denied, of an expired one expired, whatever was decided before", async () => {
    const denied = await start();
    expect((await decide("deny", denied.user_code)).body).toEqual({ status: "denied" });
    expect(await poll(denied.device_code)).toEqual([400, "access_denied"]);
    const pending = await start();
    await expire(pending.user_code);
    expect(await poll(pending.device_code)).toEqual([400, "expired_token"]);
    const approved = await start();
    await decide("approve", approved.user_code);
    await expire(approved.user_code);
    expect(await poll(approved.device_code)).toEqual([400, "expired_token"]);
    expect((await statusOf(approved.user_code)).body.status).toBe("expired");
    expect((await decide("approve", pending.user_code)).status).toBe(404);
    expect((await decide("deny", pending.user_code)).status).toBe(404);
  });

  test("is refused when the approver is removed or signs out everywhere before the device comes", async () => {
    const removed = await server.newMember("developer");
    const first = await start();
    await decide("approve", first.user_code, removed.token);
    await sql`update organization_members set status = 'disabled', disabled_at = now()
      where user_id = ${removed.userId}`.execute(server.db);
    expect(await poll(first.device_code)).toEqual([400, "access_denied"]);
    const leaving = await server.newMember("developer");
    const second = await start();
    await decide("approve", second.user_code, leaving.token);
    await revokeUserSessions(server.db, systemActor("test"), leaving.userId);
    expect(await poll(second.device_code)).toEqual([400, "access_denied"]);
  });
});

describe("races", () => {
  test("of many polls one gets the session", async () => {
    const approver = await server.newMember("viewer");
    const { device_code: deviceCode, user_code: userCode } = await start();
    await decide("approve", userCode, approver.token);
    const answers = await Promise.all(Array.from({ length: 12 }, () => poll(deviceCode)));
    expect(answers.filter(([status]) => status === 200)).toHaveLength(1);
    expect(answers.filter(([, error]) => error === "invalid_request")).toHaveLength(11);
    const { rows } = await sql`select count(*) from user_sessions where user_id = ${approver.userId}`.execute(
      server.db,
    );
    expect(rows).toEqual([{ count: 2 }]);
  });

  test("of approvals and denials at once one counts, and the device gets what was decided", async () => {
    for (let round = 0; round < 5; round += 1) {
      const { device_code: deviceCode, user_code: userCode } = await start();
      const other = await server.newMember("admin");
      const answers = await Promise.all([
        decide("approve", userCode),
        decide("deny", userCode),
        decide("approve", userCode, other.token),
        decide("deny", userCode, other.token),
      ]);
      const given = answers.filter(({ status }) => status === 200).map(({ body }) => body.status);
      expect(new Set(given).size).toBe(1);
      const [status, error] = await poll(deviceCode);
      expect([status, error]).toEqual(
        given[0] === "denied" ? [400, "access_denied"] : [200, expect.any(Object)],
      );
    }
  });
});

describe("status, approve and deny", () => {
  test("take the code in any case, with spaces and dashes", async () => {
    const { user_code: userCode } = await start();
    const typed = ` ${userCode.toLowerCase().replace("-", " - ")} `;
    const { body } = await statusOf(typed);
    expect(body).toEqual({ status: "pending", expires_at: expect.stringMatching(/^\d{4}-.*Z$/) });
    expect((await decide("approve", typed)).body).toEqual({ status: "approved" });
    expect((await decide("approve", userCode)).body).toEqual({ status: "approved" });
    expect((await decide("deny", userCode)).status).toBe(404);
    expect((await decide("approve", userCode, (await server.newMember("owner")).token)).status).toBe(404);
  });

  test.each(["AAAA-AAAA", "IIII-OOOO", "AAAA", "\0", "ß".repeat(8)])("know no %j", async (userCode) => {
    expect((await statusOf(userCode)).status).toBe(404);
    expect((await decide("approve", userCode)).status).toBe(404);
    expect((await decide("deny", userCode)).status).toBe(404);
  });

  test("need a session, and deciding needs a membership", async () => {
    const { user_code: userCode } = await start();
    const stranger = (await server.newMember(undefined)).token;
    const path = `/auth/device/status?user_code=${userCode}`;
    expect((await server.request("GET", path, undefined, open)).status).toBe(401);
    expect((await server.request("GET", path)).status).toBe(401);
    expect((await server.request("GET", path, undefined, { key: stranger })).status).toBe(200);
    for (const verb of ["approve", "deny"] as const) {
      expect((await decide(verb, userCode, stranger)).status).toBe(403);
      expect((await decide(verb, userCode, server.key)).status).toBe(401);
      const anonymous = await server.request("POST", `/auth/device/${verb}`, { user_code: userCode }, open);
      expect(anonymous.status).toBe(401);
    }
    expect((await statusOf(userCode)).body.status).toBe("pending");
  });

  test("from a browser's cookie need one of our own pages", async () => {
    const { user_code: userCode } = await start();
    const approve = async (origin: string) => {
      const headers = { cookie: `__Host-helmr_session=${owner}`, origin };
      return (
        await server.request("POST", "/auth/device/approve", { user_code: userCode }, { key: null, headers })
      ).status;
    };
    expect(await approve("https://evil.example")).toBe(403);
    expect(await approve("https://helmr.example.com")).toBe(200);
  });
});

test("what is over is swept: codes after an hour, sessions after 30 days", async () => {
  const code = await start();
  await expire(code.user_code);
  const kept = await server.newMember("viewer");
  const swept = await server.newMember("viewer");
  await sql`update user_sessions set expires_at = now() - interval '29 days' where user_id = ${kept.userId}`.execute(
    server.db,
  );
  await sql`update user_sessions set expires_at = now() - interval '31 days' where user_id = ${swept.userId}`.execute(
    server.db,
  );
  await sweepIdentity(server.db, 100);
  expect(await poll(code.device_code)).toEqual([400, "expired_token"]);
  await sql`update device_codes set expires_at = now() - interval '61 minutes'
    where user_code = ${code.user_code.replace("-", "")}`.execute(server.db);
  expect(await sweepIdentity(server.db, 100)).toBe(1);
  expect(await poll(code.device_code)).toEqual([400, "invalid_request"]);
  const { rows } = await sql`select user_id from user_sessions
    where user_id in (${kept.userId}, ${swept.userId})`.execute(server.db);
  expect(rows).toEqual([{ user_id: kept.userId }]);
});
