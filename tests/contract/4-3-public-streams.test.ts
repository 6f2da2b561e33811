/** Contract 4.3 and the streams of 1.6: public access tokens in the hands of browsers. Making them: 5-2-public-access-tokens.test.ts. */
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import { append, byExternalId, dataOf, get, post, server, session } from "./support/session-streams.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectShape } from "./support/stream-shapes.ts";
import { refusal } from "./support/strict.ts";

describe("§4.3 public routes", () => {
  const pat = async (type: string, stream: string, more: object = {}, scope: object = {}) => {
    const { body } = await post("/public-access-tokens", {
      scope: { type, session: { type: "id", id: session }, stream, ...scope },
      ...more,
    });
    return body.public_access_token as string;
  };
  const sender = (more?: object, scope?: object) => pat("session.input.send", "answers", more, scope);
  const reader = (more?: object, scope?: object) => pat("session.output.read", "news", more, scope);
  const sendAs = (key: string | null, body: unknown = {}, stream = "answers", of = session) =>
    post(`/v1/sessions/${of}/inputs/${stream}`, body, { key });
  const readAs = (key: string | null, query = "", stream = "news", of = session) =>
    get(`/v1/sessions/${of}/outputs/${stream}/read${query}`, { key });

  test("§4.3 input: body and response as 4.1, by id and by external id", async () => {
    const key = await sender();
    const first = await sendAs(key, { data: 1, correlation_id: "any", idempotency_key: "k" });
    expect(first.status).toBe(201);
    expectShape(first.body, shapes.inputAppend);
    expect(first.body.continuation_status).toBe("accepted_run_pending");
    const again = await post(
      `/v1${byExternalId("/inputs/answers")}`,
      { data: 1, correlation_id: "any", idempotency_key: "k" },
      { key },
    );
    expect(again).toMatchObject({
      status: 201,
      body: { idempotency_status: "duplicate", record: first.body.record },
    });
    expect(refusal(await sendAs(key, { data: 2, idempotency_key: "k" }))).toEqual([
      409,
      "idempotency_fingerprint_mismatch",
    ]);
    expect((await sendAs(key, { data: 1, x: 1 })).status).toBe(400);
    expect((await post(`/v1/sessions/${session}/inputs/answers`, undefined, { key })).status).toBe(400);
    await post(`/sessions/${session}/cancel`, {});
    expect(refusal(await sendAs(key, { data: 3 }))).toEqual([409, "session_terminal"]);
  });

  test("§4.3 read: query as 4.2, by id and by external id", async () => {
    await append({ data: 1, correlation_id: "a" });
    await append({ data: 2, correlation_id: "b" });
    const key = await reader();
    const first = await readAs(key);
    expect(first.status).toBe(200);
    expectShape(first.body, shapes.recordRead);
    expect(first.body.record.data).toBe(1);
    expect((await readAs(key, "?after_sequence=1")).body.record.data).toBe(2);
    expect((await readAs(key, "?correlation_id=b")).body.record.data).toBe(2);
    expect((await readAs(key, "?cursor=2")).body).toEqual({ record: null });
    expect((await get(`/v1${byExternalId("/outputs/news/read")}`, { key })).body.record.data).toBe(1);
    expect((await readAs(key, "?after_sequence=-1")).status).toBe(400);
  });

  test("§4.3 each successful call consumes one use, reads too; a failed one none", async () => {
    const input = await sender({ max_uses: 2 });
    expect((await sendAs(input, { x: 1 })).status).toBe(400);
    expect((await sendAs(input, {}, "nope")).status).toBe(404);
    const keyed = { data: 1, idempotency_key: "k" };
    expect((await sendAs(input, keyed)).status).toBe(201);
    expect((await sendAs(input, keyed)).status).toBe(201);
    expect(refusal(await sendAs(input, keyed))).toEqual([403, "token_scope_denied"]);
    const output = await reader({ max_uses: 2 });
    expect((await readAs(output, "?after_sequence=x")).status).toBe(400);
    expect((await readAs(output)).status).toBe(200);
    expect((await readAs(output)).status).toBe(200);
    expect(refusal(await readAs(output))).toEqual([403, "token_scope_denied"]);
  });

  test("§4.3 no bearer or an unknown one → 401 token_scope_denied", async () => {
    const keys = [
      null,
      "x",
      server.key,
      `hlmr_pat_${"A".repeat(43)}`,
      `hlmr_public_access_${"A".repeat(43)}`,
    ];
    for (const key of keys) {
      expect(refusal(await sendAs(key))).toEqual([401, "token_scope_denied"]);
      expect(refusal(await readAs(key))).toEqual([401, "token_scope_denied"]);
    }
  });

  test("§4.3 wrong scope, correlation id or stream, revoked → 403; expired → 410", async () => {
    const denied = [403, "token_scope_denied"];
    expect(refusal(await sendAs(await reader()))).toEqual(denied);
    expect(refusal(await readAs(await sender()))).toEqual(denied);
    const bound = await sender({}, { correlation_id: "c" });
    for (const body of [{}, { correlation_id: "d" }])
      expect(refusal(await sendAs(bound, body))).toEqual(denied);
    expect((await sendAs(bound, { correlation_id: "c" })).status).toBe(201);
    expect(refusal(await sendAs(bound, { correlation_id: "c" }, "questions"))).toEqual(denied);
    const boundReader = await reader({}, { correlation_id: "c" });
    for (const query of ["", "?correlation_id=d"])
      expect(refusal(await readAs(boundReader, query))).toEqual(denied);
    expect((await readAs(boundReader, "?correlation_id=c")).status).toBe(200);
    const key = await reader();
    const last = sql`(select max(id::text)::uuid from public_access_tokens)`;
    await sql`update public_access_tokens set revoked_at = now() where id = ${last}`.execute(server.db);
    expect(refusal(await readAs(key))).toEqual(denied);
    const over = await reader();
    await sql`update public_access_tokens set expires_at = now() where id = ${last}`.execute(server.db);
    expect(refusal(await readAs(over))).toEqual([410, "token_expired"]);
  });

  test("§1.2 any other Helmr-API-Version → 400, on the public routes, too", async () => {
    const headers = { "helmr-api-version": "2026-06-07" };
    const key = await sender();
    expect((await post(`/v1/sessions/${session}/inputs/answers`, {}, { key, headers })).status).toBe(400);
    expect((await post(`/sessions/${session}/inputs/answers`, {}, { headers })).status).toBe(400);
    expect(await dataOf(`/sessions/${session}/inputs/answers`)).toEqual([]);
  });

  test("§4.3 unknown session or stream → 404 stream_not_found; a PAT opens nothing else", async () => {
    const [input, output] = [await sender(), await reader()];
    const unknown = crypto.randomUUID();
    const notFound = [404, "stream_not_found"];
    expect(refusal(await sendAs(input, {}, "answers", unknown))).toEqual(notFound);
    expect(refusal(await sendAs(input, {}, "nope"))).toEqual(notFound);
    expect(refusal(await readAs(output, "", "news", unknown))).toEqual(notFound);
    expect(refusal(await readAs(output, "", "nope"))).toEqual(notFound);
    for (const key of [input, output]) {
      for (const path of [`/sessions/${session}`, `/sessions/${session}/outputs/news/read`, "/tokens"]) {
        expect((await get(path, { key })).status).toBe(401);
      }
    }
  });
});

describe("§1.6 CORS of streams", () => {
  const corsOf = ({ headers }: { headers: Headers }) =>
    Object.fromEntries(
      [...headers].filter(([name]) => name === "vary" || name.startsWith("access-control-")),
    );

  test.each([
    ["POST", "inputs/answers"],
    ["GET", "outputs/news/read"],
  ])(
    "§1.6 OPTIONS for %s /api/v1/…/%s → 204, headers for the server's own origin only",
    async (method, rest) => {
      for (const path of [`/v1/sessions/${session}/${rest}`, `/v1${byExternalId(`/${rest}`)}`]) {
        const ask = (origin?: string) =>
          server.request("OPTIONS", path, undefined, {
            key: null,
            headers: { "access-control-request-method": method, ...(origin !== undefined && { origin }) },
          });
        const own = await ask(server.publicUrl);
        expect([own.status, own.body]).toEqual([204, ""]);
        expect(corsOf(own)).toEqual({
          "access-control-allow-origin": server.publicUrl,
          vary: "origin",
          "access-control-allow-methods": `${method}, OPTIONS`,
          "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
          "access-control-max-age": "600",
        });
        for (const origin of [
          undefined,
          "null",
          "https://elsewhere.example",
          `${server.publicUrl}.example`,
        ]) {
          const other = await ask(origin);
          expect([other.status, corsOf(other)]).toEqual([204, {}]);
        }
      }
    },
  );

  test("§1.6 the keyed routes have no CORS", async () => {
    for (const rest of ["inputs/answers", "outputs/news/read", "streams"]) {
      const headers = { origin: server.publicUrl, "access-control-request-method": "POST" };
      const preflight = await server.request("OPTIONS", `/sessions/${session}/${rest}`, undefined, {
        headers,
      });
      expect([preflight.status, corsOf(preflight)]).toEqual([404, {}]);
    }
    const answer = await get(`/sessions/${session}/streams`, { headers: { origin: server.publicUrl } });
    expect(corsOf(answer)).toEqual({});
  });
});
