/** Contract 3.3 and 4.2: the routes of sessions' streams, and what they read. Appending: 4-1-append.test.ts. */
import { seedEnvironment } from "@helmr/store/testing";
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import type { RequestOptions } from "../../packages/control-plane/test/support/server.ts";
import { append, byExternalId, dataOf, get, post, send, server, session } from "./support/session-streams.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectList, expectShape } from "./support/stream-shapes.ts";
import { refusal, strictRequest } from "./support/strict.ts";

describe("§3 §3.3 routes of streams", () => {
  test("§3.3 listing: every declared stream, both directions, last sequence, 0 if none", async () => {
    const { body } = await get(`/sessions/${session}/streams`);
    expectList(body, "streams", shapes.stream);
    const seen = (streams: { name: string; direction: string; sequence: number }[]) =>
      streams.map(({ name, direction, sequence }) => `${direction} ${name} ${sequence}`).sort();
    expect(seen(body.streams)).toEqual([
      "input answers 0",
      "input both 0",
      "input questions 0",
      "output both 0",
      "output log 0",
      "output news 0",
    ]);
    for (const { session_id } of body.streams) expect(session_id).toBe(session);
    const { body: appended } = await append({ data: 1 });
    await append({ data: 2 });
    const { body: after } = await get(byExternalId("/streams"));
    expect(seen(after.streams)).toContain("output news 2");
    const news = body.streams.find(({ name }: { name: string }) => name === "news");
    expect(appended.record.stream_id).toBe(news.id);
  });

  test("§3 both forms of {S} and both prefixes are the same resource", async () => {
    const { token: key } = await server.newMember("developer");
    const forms: [string, RequestOptions | undefined][] = [
      [`/sessions/${session}`, undefined],
      [`${server.prefix}/sessions/${session}`, { key }],
      [`/projects/test/environments/PRODUCTION/sessions/${session}`, { key }],
    ];
    for (const [base, options] of forms) {
      expect((await post(`${base}/inputs/answers`, { data: base }, options)).status).toBe(201);
      expect((await post(`${base}/outputs/news`, { data: base }, options)).status).toBe(201);
    }
    expect((await post(byExternalId("/inputs/answers"), { data: "external" })).status).toBe(201);
    expect((await post(byExternalId("/outputs/news"), { data: "external" })).status).toBe(201);
    const all = [...forms.map(([base]) => base), "external"];
    for (const rest of ["/inputs/answers", "/outputs/news"]) {
      for (const [base, options] of forms) {
        const { body } = await get(`${base}${rest}`, options);
        expect(body.records.map(({ data }: { data: string }) => data)).toEqual(all);
      }
      expect(await dataOf(byExternalId(rest))).toEqual(all);
    }
    for (const [base, options] of forms) {
      const { body } = await get(`${base}/outputs/news/read?after_sequence=3`, options);
      expect(body.record.data).toBe("external");
    }
    expect((await get(byExternalId("/outputs/news/read"))).body.record.sequence).toBe(1);
  });

  const each = [
    ["GET", "/streams"],
    ["POST", "/inputs/answers"],
    ["GET", "/inputs/answers"],
    ["POST", "/outputs/news"],
    ["GET", "/outputs/news"],
    ["GET", "/outputs/news/read"],
  ] as const;
  const scopeToWrite: Readonly<Record<string, string>> = {
    "/inputs/answers": "session-input:send",
    "/outputs/news": "session-output:append",
  };
  const call = (method: string, path: string, options?: RequestOptions) =>
    strictRequest(server, method, path, method === "POST" ? {} : undefined, options);

  test.each(each)("§3 §1.4 %s {S}%s: unknown or of another scope 404, no UUID 400", async (method, rest) => {
    const notFound = { status: 404, body: { error: "session not found" } };
    const key = await server.newKey((await seedEnvironment(server.db)).scope);
    expect(await call(method, `/sessions/${crypto.randomUUID()}${rest}`)).toMatchObject(notFound);
    expect(await call(method, `/sessions/by-external-id${rest}?external_id=missing`)).toMatchObject(notFound);
    expect(await call(method, `/sessions/${session}${rest}`, { key })).toMatchObject(notFound);
    for (const path of [
      `/sessions/nope${rest}`,
      `/sessions/by-external-id${rest}`,
      `/sessions/by-external-id${rest}?external_id=${"é".repeat(257)}`,
      `/sessions/${session}${rest}?project_id=${server.scope.projectId}`,
      `/sessions/${session}${rest}?environment_id=${server.scope.environmentId}`,
    ]) {
      expect((await call(method, path)).status).toBe(400);
    }
  });

  test.each(each)("§3 §1.4 §1.5 %s {S}%s: who may", async (method, rest) => {
    const scope = (method === "POST" && scopeToWrite[rest]) || "session-streams:read";
    const others = ["session-input:send", "session-output:append", "session-streams:read", "runs:manage"];
    const path = `/sessions/${session}${rest}`;
    expect(
      (await call(method, path, { key: await server.newKey(server.scope, [scope]) })).status,
    ).toBeLessThan(300);
    const without = await server.newKey(
      server.scope,
      others.filter((other) => other !== scope),
    );
    expect(await call(method, path, { key: without })).toMatchObject({
      status: 403,
      body: { error: "permission is required" },
    });
    const { token: viewer } = await server.newMember("viewer");
    expect((await call(method, `${server.prefix}${path}`, { key: viewer })).status).toBe(
      method === "GET" ? 200 : 403,
    );
    expect((await call(method, path, { key: viewer })).status).toBe(403);
    expect((await call(method, `${server.prefix}${path}`)).status).toBe(401);
    expect((await call(method, path, { key: null })).status).toBe(401);
  });
});

describe("§4.2 list and read", () => {
  test.each([
    ["outputs/news", append],
    ["inputs/answers", send],
  ] as const)("§4.2 GET %s: after_sequence, cursor, limit, correlation_id", async (rest, write) => {
    const path = `/sessions/${session}/${rest}`;
    expect(await dataOf(path)).toEqual([]);
    for (const [data, correlation_id] of [
      [1, "a"],
      [2, "b"],
      [3, "a"],
      [4, undefined],
    ]) {
      await write({ data, correlation_id });
    }
    expect(await dataOf(path)).toEqual([1, 2, 3, 4]);
    expect(await dataOf(`${path}?after_sequence=0`)).toEqual([1, 2, 3, 4]);
    expect(await dataOf(`${path}?after_sequence=2`)).toEqual([3, 4]);
    expect(await dataOf(`${path}?cursor=2&limit=1`)).toEqual([3]);
    expect(await dataOf(`${path}?correlation_id=a&after_sequence=1`)).toEqual([3]);
    expect(await dataOf(`${path}?correlation_id=A`)).toEqual([]);
    expect(await dataOf(`${path}?after_sequence=${Number.MAX_SAFE_INTEGER}`)).toEqual([]);
    expect(await dataOf(byExternalId(`/${rest}`, "&after_sequence=3"))).toEqual([4]);
    for (const query of ["limit=0", "limit=501", "limit=x", "after_sequence=-1", "cursor=1.5", "cursor=x"]) {
      expect((await get(`${path}?${query}`)).status).toBe(400);
    }
  });

  test("§4.2 limit: 100 by default, up to 500", async () => {
    const { body } = await append({ data: 0 });
    await sql`insert into stream_records (stream_id, sequence, id, data, content_type)
      select ${body.record.stream_id}, n, uuidv7(), to_json(n), 'application/json'
      from generate_series(2, 501) n`.execute(server.db);
    const path = `/sessions/${session}/outputs/news`;
    expect(await dataOf(path)).toHaveLength(100);
    expect(await dataOf(`${path}?limit=500`)).toHaveLength(500);
  });

  test("§4.2 §14.11 read: {record} with at most one, or null", async () => {
    const path = `/sessions/${session}/outputs/news/read`;
    expect((await get(path)).body).toEqual({ record: null });
    await append({ data: null, correlation_id: "a" });
    await append({ data: 2, correlation_id: "b" });
    const first = await get(path);
    expectShape(first.body, shapes.recordRead);
    expect(first.body.record).toMatchObject({ sequence: 1, data: null });
    expect((await get(`${path}?after_sequence=1`)).body.record.data).toBe(2);
    expect((await get(`${path}?correlation_id=b`)).body.record.data).toBe(2);
    expect((await get(byExternalId("/outputs/news/read", "&cursor=2"))).body).toEqual({ record: null });
    for (const query of ["after_sequence=-1", "cursor=x"]) {
      expect((await get(`${path}?${query}`)).status).toBe(400);
    }
  });

  test("§4.2 §1.7 not declared → 404 stream_not_found, other direction → 404, a bad name → 400", async () => {
    const body = {};
    const calls = (input: string, output: string) =>
      Promise.all([
        send(body, input),
        get(`/sessions/${session}/inputs/${input}`),
        append(body, output),
        get(`/sessions/${session}/outputs/${output}`),
        get(`/sessions/${session}/outputs/${output}/read`),
      ]);
    for (const answer of await calls("nope", "nope")) {
      expect(refusal(answer)).toEqual([404, "stream_not_found"]);
    }
    for (const answer of await calls("news", "answers")) {
      expect(refusal(answer)).toEqual([404, "stream_direction_mismatch"]);
    }
    for (const answer of await calls("both", "both")) expect(answer.status).toBeLessThan(300);
    for (const name of ["-x", ".x", "a%2Fb", "a%20b", "%C3%A9", "x".repeat(257)]) {
      for (const answer of await calls(name, name)) expect(answer.status).toBe(400);
    }
    const longest = "x".repeat(256);
    for (const answer of await calls(longest, longest)) expect(answer.status).toBe(404);
  });
});
