/** Contract 2.4, 5 and the making of tokens in 5.1. How they end: 5-1-token-ends.test.ts. */
import { createHmac } from "node:crypto";
import { seedEnvironment } from "@helmr/store/testing";
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import type { RequestOptions } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectList, expectShape } from "./support/stream-shapes.ts";
import { refusal, strictRequest } from "./support/strict.ts";
import {
  cancel,
  complete,
  create,
  get,
  makeDue,
  post,
  publicUrl,
  server,
  unknown,
} from "./support/tokens.ts";

describe("§5 routes of tokens", () => {
  test("§5 §2.4 create: 201 with both secrets; everything else is bare and without them", async () => {
    const { status, body: created } = await post("/tokens", {
      tags: ["b", " a ", "b"],
      metadata: { z: 1, a: [null] },
    });
    expect(status).toBe(201);
    expectShape(created, shapes.createdToken);
    expect(created).toMatchObject({ status: "pending", tags: ["a", "b"], metadata: { z: 1, a: [null] } });
    expect(created).not.toHaveProperty("data");
    const { callback_url, public_access_token, ...rest } = created;
    const read = await get(`/tokens/${created.id}`);
    expectShape(read.body, shapes.token);
    expect(read).toMatchObject({ status: 200, body: rest });
    const completed = await complete(created.id, { data: { ok: true } });
    expect(completed.status).toBe(200);
    expectShape(completed.body, shapes.tokenCompletion);
    expect(completed.body).toEqual({
      status: "completed",
      token: { ...rest, status: "completed", data: { ok: true } },
    });
    const cancelled = await cancel((await create()).id);
    expect(cancelled.status).toBe(200);
    expectShape(cancelled.body, shapes.token);
    expect(cancelled.body.status).toBe("cancelled");
    const list = await get("/tokens");
    expectList(list.body, "tokens", shapes.token);
  });

  test("§2.4 timeout_at is always there, whatever became of the token", async () => {
    const ids = [(await create()).id, (await create()).id, (await create()).id, (await create()).id];
    await complete(ids[0], {});
    await cancel(ids[1]);
    await makeDue(ids[2]);
    const seen = [];
    for (const id of ids) {
      const { body } = await get(`/tokens/${id}`);
      expectShape(body, shapes.token);
      expect(body).toHaveProperty("timeout_at");
      seen.push(body.status);
    }
    expect(seen).toEqual(["completed", "cancelled", "expired", "pending"]);
  });

  const each = [
    ["POST", "", "tokens:create"],
    ["GET", "", "tokens:read"],
    ["GET", "/{id}", "tokens:read"],
    ["POST", "/{id}/complete", "tokens:complete"],
    ["POST", "/{id}/cancel", "tokens:cancel"],
  ] as const;
  test.each(each)("§5 §1.4 §1.5 %s /tokens%s needs %s, on both prefixes", async (method, rest, scope) => {
    const call = async (prefix: string, key: string | null) => {
      const path = `${prefix}/tokens${rest.replace("{id}", (await create()).id)}`;
      return await strictRequest(server, method, path, method === "POST" ? {} : undefined, { key });
    };
    const others = ["tokens:create", "tokens:read", "tokens:complete", "tokens:cancel"];
    expect((await call("", await server.newKey(server.scope, [scope]))).status).toBeLessThan(300);
    const without = await server.newKey(
      server.scope,
      others.filter((other) => other !== scope),
    );
    expect(await call("", without)).toMatchObject({ status: 403, body: { error: "permission is required" } });
    const [developer, viewer] = [await server.newMember("developer"), await server.newMember("viewer")];
    expect((await call(server.prefix, developer.token)).status).toBeLessThan(300);
    expect((await call(server.prefix, viewer.token)).status).toBe(method === "GET" ? 200 : 403);
    expect((await call("", developer.token)).status).toBe(400);
    expect((await call(server.prefix, server.key)).status).toBe(401);
    expect((await call("", null)).status).toBe(401);
  });

  test("§5 list: oldest first, status or state, cursor or after, limit 1..500, next_cursor only when more follows", async () => {
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await get("/tokens", { key })).body).toEqual({ tokens: [] });
    const ids: string[] = [];
    for (let i = 0; i < 4; i += 1) ids.push((await post("/tokens", {}, { key })).body.id);
    const [pending = "", completed = "", cancelled = "", expired = ""] = ids;
    await post(`/tokens/${completed}/complete`, {}, { key });
    await post(`/tokens/${cancelled}/cancel`, {}, { key });
    await makeDue(expired);
    const list = async (query: string) => {
      const { status, body } = await get(`/tokens?${query}`, { key });
      expect(status).toBe(200);
      expectList(body, "tokens", shapes.token, {
        ...(Object.hasOwn(body, "next_cursor") && { next_cursor: (id) => ids.includes(String(id)) }),
      });
      return [body.tokens.map(({ id }: { id: string }) => id), body.next_cursor];
    };
    expect(await list("")).toEqual([ids, undefined]);
    expect(await list("limit=4")).toEqual([ids, undefined]);
    expect(await list("limit=3")).toEqual([ids.slice(0, 3), cancelled]);
    expect(await list(`limit=3&cursor=${cancelled}`)).toEqual([[expired], undefined]);
    expect(await list(`limit=1&after=${pending}`)).toEqual([[completed], completed]);
    expect(await list(`cursor=${expired}`)).toEqual([[], undefined]);
    for (const filter of ["status", "state"]) {
      expect(await list(`${filter}=pending`)).toEqual([[pending], undefined]);
      expect(await list(`${filter}=completed`)).toEqual([[completed], undefined]);
      expect(await list(`${filter}=cancelled`)).toEqual([[cancelled], undefined]);
      expect(await list(`${filter}=expired`)).toEqual([[expired], undefined]);
    }
    for (const query of ["status=open", "state=", "limit=0", "limit=501", "limit=x", "cursor=x", "after=1"]) {
      expect((await get(`/tokens?${query}`, { key })).status).toBe(400);
    }
    await sql`insert into tokens (id, environment_id, status, timeout_at, tags, metadata)
      select uuidv7(), environment_id, 'pending', timeout_at, tags, metadata
      from tokens, generate_series(1, 500) where id = ${pending}`.execute(server.db);
    expect((await get("/tokens", { key })).body.tokens).toHaveLength(100);
    expect((await get("/tokens?limit=500", { key })).body.tokens).toHaveLength(500);
  });

  test("§1.4 §5.1 unknown or of another scope → 404 token_not_found; no UUID → 400", async () => {
    const { id } = await create();
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    for (const [method, rest] of [
      ["GET", ""],
      ["POST", "/complete"],
      ["POST", "/cancel"],
    ] as const) {
      const call = (of: string, options?: RequestOptions) =>
        strictRequest(server, method, `/tokens/${of}${rest}`, method === "POST" ? {} : undefined, options);
      expect(refusal(await call(unknown))).toEqual([404, "token_not_found"]);
      expect(refusal(await call(id, { key }))).toEqual([404, "token_not_found"]);
      expect((await call("nope")).status).toBe(400);
    }
    expect((await get(`/tokens/${id}`)).body.status).toBe("pending");
  });

  test("§5 §1.1 strict bodies: create and complete need one, cancel does not read its own", async () => {
    const { id } = await create();
    for (const path of ["/tokens", `/tokens/${id}/complete`]) {
      expect((await post(path)).status).toBe(400);
      expect((await post(path, undefined, { raw: "{}{}" })).status).toBe(400);
      for (const body of [[], null, { x: 1 }, { project_id: server.scope.projectId }]) {
        expect((await post(path, body)).status).toBe(400);
      }
    }
    expect((await post(`/tokens/${id}/cancel`)).status).toBe(200);
    expect((await post(`/tokens/${(await create()).id}/cancel`, { anything: 1 })).status).toBe(200);
  });
});

describe("§5.1 create", () => {
  test.each([
    ["nothing", undefined, 7 * 86_400_000],
    ["null", null, 7 * 86_400_000],
    ["10m", "10m", 600_000],
    ["7d", "7d", 7 * 86_400_000],
    ["1h30m", "1h30m", 5_400_000],
    ["a number of milliseconds", 1500, 1500],
    ["one unit", { seconds: 90 }, 90_000],
    ["a duration", { duration: "2h" }, 7_200_000],
    [
      "a sum of all",
      { milliseconds: 500, seconds: 1, minutes: 1, hours: 1, duration: "1d" },
      86_400_000 + 3_661_500,
    ],
  ])("§5.1 §13.3 timeout: %s", async (_name, timeout, ms) => {
    const { id, timeout_at } = await create({ timeout });
    const { rows } = await sql<{ at: Date; ms: number }>`select timeout_at as at,
      (extract(epoch from timeout_at - created_at) * 1000)::float8 as ms from tokens where id = ${id}`.execute(
      server.db,
    );
    expect(rows[0]?.ms).toBeCloseTo(ms, 0);
    expect(Date.parse(timeout_at)).toBe(rows[0]?.at.getTime());
  });

  test.each([
    [{ timeout: 0 }],
    [{ timeout: -1 }],
    [{ timeout: "0s" }],
    [{ timeout: "" }],
    [{ timeout: "10" }],
    [{ timeout: true }],
    [{ timeout: {} }],
    [{ timeout: { seconds: "1" } }],
    [{ timeout: { days: 1 } }],
    [{ timeout: { minutes: 1, seconds: -60 } }],
    [{ tags: [" "] }],
    [{ tags: ["é".repeat(65)] }],
    [{ tags: Array.from({ length: 11 }, (_, n) => `${n}`) }],
    [{ metadata: [] }],
    [{ metadata: "x" }],
    [{ idempotency_key: "k".repeat(513) }],
  ])("§5.1 §1.7 %j → 400", async (body) => {
    expect((await post("/tokens", body)).status).toBe(400);
  });

  test("§5.1 idempotent: 200, the same token and secrets; anything else → 409", async () => {
    const body = { timeout: "1h", tags: ["a", "b"], metadata: { x: 1, y: 2 }, idempotency_key: "k" };
    const first = await post("/tokens", body);
    const again = await post("/tokens", {
      ...body,
      tags: ["b", "a"],
      metadata: { y: 2, x: 1 },
      timeout: { hours: 1 },
    });
    expect([first.status, again.status]).toEqual([201, 200]);
    expectShape(again.body, shapes.createdToken);
    expect(again.body).toEqual(first.body);
    for (const other of [{ timeout: "2h" }, { tags: ["a"] }, { metadata: {} }, { timeout: null }]) {
      expect(refusal(await post("/tokens", { ...body, ...other }))).toEqual([
        409,
        "idempotency_fingerprint_mismatch",
      ]);
    }
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await post("/tokens", body, { key })).status).toBe(201);
    await complete(first.body.id, { data: null });
    const ended = await post("/tokens", body);
    expectShape(ended.body, shapes.createdToken);
    expect([ended.status, ended.body.status]).toEqual([200, "completed"]);
  });

  test("§5.1 the secrets are the HMACs of the id, the callback URL is below the public URL", async () => {
    const { id, callback_url, public_access_token } = await create();
    const mac = (kind: string) =>
      createHmac("sha256", Buffer.alloc(32, 9)).update(`helmr:${kind}:default:${id}`).digest("base64url");
    expect(callback_url).toBe(`${publicUrl}/api/v1/tokens/${id}/callback/hlmr_callback_${mac("callback")}`);
    expect(public_access_token).toBe(`hlmr_public_access_${mac("public-access")}`);
  });
});
