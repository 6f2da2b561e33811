/** Session inputs and outputs, tokens and public access tokens: requests, and what becomes of the answers. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, expectTypeOf, it, vi } from "vitest";
import * as z from "zod";
import { json, ScriptedServer } from "../../test-support/scripted-server.ts";
import {
  AuthError,
  auth,
  HelmrApiError,
  HelmrClient,
  InvalidResponseError,
  PayloadSchemaValidationError,
  type SentRecord,
  type StreamRecord,
  streams,
  tokens,
} from "../index.ts";

const server = new ScriptedServer();
let client: HelmrClient;
beforeAll(async () => {
  await server.start();
});
afterAll(() => server.stop());
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  client = new HelmrClient({ url: server.url, apiKey: "hlmr_sk_key" });
  server.script();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

const wireRecord = {
  id: "r1",
  stream_id: "st1",
  sequence: 3,
  data: { ok: true },
  correlation_id: "c",
  content_type: "application/json",
  created_at: "2026-06-06T12:00:00.000Z",
};
const record = {
  id: "r1",
  sequence: 3,
  data: { ok: true },
  correlationId: "c",
  contentType: "application/json",
  createdAt: "2026-06-06T12:00:00.000Z",
};
const appended = { record: wireRecord, idempotency_status: "created" };
const wireToken = { id: "t1", status: "pending", timeout_at: "2026-06-13T12:00:00Z", metadata: { a: 1 } };
const last = () => server.requests.at(-1);
const answers = streams.input("answers", { schema: z.object({ n: z.string().transform(Number) }) });
const news = streams.output("news", { schema: z.object({ n: z.number() }) });
const scope = { projectId: "p", environmentId: "e" };

describe("session input", () => {
  it("sends what is given and nothing else", async () => {
    server.script(
      json({ ...appended, continuation_status: "created" }, 201),
      json({ ...appended, idempotency_status: "duplicate" }, 201),
      json({ ...appended, idempotency_status: "something" }, 201),
    );
    const input = client.sessions.open("s1").input("answers");
    expect(input.id).toBe("answers");
    const sent = await input.send({ ok: true }, { correlationId: "c", idempotencyKey: "k" });
    expect(sent).toEqual({ ...record, idempotencyStatus: "created", continuationStatus: "created" });
    expectTypeOf(sent).toEqualTypeOf<SentRecord>();
    expect(last()).toMatchObject({ body: { data: { ok: true }, correlation_id: "c", idempotency_key: "k" } });
    expect((await input.send(null)).idempotencyStatus).toBe("duplicate");
    expect(last()?.body).toEqual({ data: null });
    expect(
      (await client.sessions.open({ externalId: "a b" }).input("answers").send(1, scope)).idempotencyStatus,
    ).toBe("created");
    expect(server.lines).toEqual([
      "POST /api/sessions/s1/inputs/answers",
      "POST /api/sessions/s1/inputs/answers",
      "POST /api/projects/p/environments/e/sessions/by-external-id/inputs/answers?external_id=a+b",
    ]);
    expect(last()?.headers.authorization).toBe("Bearer hlmr_sk_key");
  });

  it("checks with the definition's schema, and sends the data as it was given", async () => {
    const input = client.sessions.open("s1").input(answers);
    await expect(input.send({ n: 1 })).rejects.toThrow(PayloadSchemaValidationError);
    expect(server.requests).toEqual([]);
    server.script(json(appended, 201));
    await input.send({ n: "1" });
    expect(last()?.body).toEqual({ data: { n: "1" } });
  });

  it("goes to the browsers' route with a public access token, which is the credential then", async () => {
    server.script(json(appended, 201));
    const options = { publicAccessToken: "hlmr_pat_x", ...scope };
    await client.sessions.open({ externalId: "x" }).input("answers").send(1, options);
    expect(server.lines).toEqual(["POST /api/v1/sessions/by-external-id/inputs/answers?external_id=x"]);
    expect(last()?.headers.authorization).toBe("Bearer hlmr_pat_x");
  });

  it("lists", async () => {
    server.script(json({ records: [wireRecord] }));
    const input = client.sessions.open({ externalId: "x" }).input("answers");
    expect(await input.list({ cursor: 2, limit: 5, correlationId: "c" })).toEqual([record]);
    expect(server.lines).toEqual([
      "GET /api/sessions/by-external-id/inputs/answers?external_id=x&after_sequence=2&limit=5&correlation_id=c",
    ]);
  });

  it("refuses to wait outside of the session's run, and asks nobody", async () => {
    const input = client.sessions.open("s1").input("answers");
    for (const call of [
      () => input.wait(),
      () => input.once(),
      () => input.on(() => {}),
      () => input.peek(),
    ]) {
      expect(call).toThrow(/works only inside the session's own run/);
    }
    expect(server.requests).toEqual([]);
  });

  it("takes names and definitions of its direction only", () => {
    const session = client.sessions.open("s1");
    for (const bad of ["", "-x", "a/b", "x".repeat(257), undefined, {}]) {
      expect(() => session.input(bad as string)).toThrow(TypeError);
      expect(() => session.output(bad as string)).toThrow(TypeError);
    }
    expect(() => session.input(news as never)).toThrow(/streams\.input/);
    expect(() => session.output(answers as never)).toThrow(/streams\.output/);
  });

  it("rejects records that are none", async () => {
    const input = client.sessions.open("s1").input("answers");
    for (const bad of [undefined, {}, { ...wireRecord, sequence: "3" }, { ...wireRecord, id: 1 }]) {
      server.script(json({ record: bad }, 201));
      await expect(input.send(1)).rejects.toThrow(InvalidResponseError);
    }
    server.script(json({ records: {} }));
    await expect(input.list()).rejects.toThrow(InvalidResponseError);
  });
});

describe("session output", () => {
  it("appends, pipes and writes in order", async () => {
    const output = client.sessions.open("s1").output(news);
    expectTypeOf(output.append).parameter(0).toEqualTypeOf<{ n: number }>();
    await expect(output.append({ n: "1" } as never)).rejects.toThrow(PayloadSchemaValidationError);
    server.script(...Array.from({ length: 5 }, () => json(appended, 201)));
    await output.append({ n: 0 }, { contentType: "text/x", correlationId: "c", idempotencyKey: "k" });
    expect(last()?.body).toEqual({
      data: { n: 0 },
      content_type: "text/x",
      correlation_id: "c",
      idempotency_key: "k",
    });
    async function* values() {
      yield { n: 1 };
      yield { n: 2 };
    }
    expect(await output.pipe(values())).toBe(2);
    const writer = output.writer();
    void writer.write({ n: 3 });
    void writer.write({ n: 4 });
    await writer.close();
    expect(server.requests.map(({ body }) => (body as { data: { n: number } }).data.n)).toEqual([
      0, 1, 2, 3, 4,
    ]);
    await expect(writer.write({ n: 5 })).rejects.toThrow(/closed/);
  });

  it("reads the next record or null, and lists", async () => {
    server.script(json({ record: wireRecord }), json({ record: null }), json({ records: [] }));
    const output = client.sessions.open("s1").output<{ ok: boolean }>("news");
    const read = await output.read({ cursor: 2, correlationId: "c" });
    expectTypeOf(read).toEqualTypeOf<StreamRecord<{ ok: boolean }> | null>();
    expect(read).toEqual(record);
    expect(await output.read({ publicAccessToken: "hlmr_pat_x" })).toBeNull();
    expect(last()?.headers.authorization).toBe("Bearer hlmr_pat_x");
    expect(await output.list({ limit: 2 })).toEqual([]);
    expect(server.lines).toEqual([
      "GET /api/sessions/s1/outputs/news/read?after_sequence=2&correlation_id=c",
      "GET /api/v1/sessions/s1/outputs/news/read",
      "GET /api/sessions/s1/outputs/news?limit=2",
    ]);
  });

  it("says of a refused public access token that it is that one", async () => {
    server.script(json({ error: "no", code: "token_scope_denied" }, 401));
    const read = client.sessions.open("s1").output("news").read({ publicAccessToken: "hlmr_pat_secret" });
    const error = await read.catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(AuthError);
    expect(String(error)).toMatch(/public access token/);
    expect(String(error)).not.toContain("hlmr_pat_secret");
  });
});

describe("tokens", () => {
  it("are created with their secrets", async () => {
    server.script(
      json(
        {
          ...wireToken,
          tags: ["a"],
          callback_url: "https://x/cb",
          public_access_token: "hlmr_public_access_y",
        },
        201,
      ),
    );
    const timeout = { minutes: 1, seconds: 30 };
    const token = await client.tokens.create({
      timeout,
      tags: ["a"],
      metadata: { a: 1 },
      idempotencyKey: "k",
      ...scope,
    });
    expect(token).toEqual({
      id: "t1",
      status: "pending",
      callbackUrl: "https://x/cb",
      publicAccessToken: "hlmr_public_access_y",
      timeoutAt: "2026-06-13T12:00:00Z",
      tags: ["a"],
      metadata: { a: 1 },
    });
    expect(last()).toMatchObject({
      path: "/api/projects/p/environments/e/tokens",
      body: { timeout, tags: ["a"], metadata: { a: 1 }, idempotency_key: "k" },
    });
    server.script(json(wireToken, 201));
    await client.tokens.create();
    expect(last()?.body).toEqual({});
  });

  it("are read, listed in pages, and cancelled", async () => {
    server.script(
      json({ ...wireToken, status: "completed", data: null }),
      json({ tokens: [wireToken], next_cursor: "t1" }),
      json({ tokens: [], next_cursor: null }),
      json({ ...wireToken, status: "cancelled" }),
    );
    const token = await client.tokens.retrieve("t1");
    expect(token).toHaveProperty("data", null);
    const page = await client.tokens.listPage({ status: "pending", limit: 1 });
    expect(page).toMatchObject({ tokens: [{ id: "t1" }], nextCursor: "t1" });
    expect(page.tokens[0]).not.toHaveProperty("data");
    expect(await client.tokens.list({ cursor: "t1" })).toEqual([]);
    expect((await client.tokens.cancel(token)).status).toBe("cancelled");
    expect(last()?.body).toEqual({});
    expect(server.lines).toEqual([
      "GET /api/tokens/t1",
      "GET /api/tokens?status=pending&limit=1",
      "GET /api/tokens?cursor=t1",
      "POST /api/tokens/t1/cancel",
    ]);
  });

  it("complete by the key, or publicly whenever a public access token is there", async () => {
    const done = { status: "completed", token: { ...wireToken, status: "completed", data: 1 } };
    server.script(json(done), json({ ...done, status: "already_completed" }), json(done), json(done));
    expect(await client.tokens.complete("t1", 1, scope)).toMatchObject({
      status: "completed",
      token: { data: 1 },
    });
    const token = { id: "t1", publicAccessToken: "hlmr_public_access_a" };
    expect((await client.tokens.complete(token, undefined, scope)).status).toBe("already_completed");
    expect(last()).toMatchObject({ body: {}, headers: { authorization: "Bearer hlmr_public_access_a" } });
    await client.tokens.complete("t1", undefined, { publicAccessToken: "hlmr_public_access_b" });
    expect(last()?.headers.authorization).toBe("Bearer hlmr_public_access_b");
    await client.tokens.complete({ id: "t1" });
    expect(server.lines).toEqual([
      "POST /api/projects/p/environments/e/tokens/t1/complete",
      "POST /api/v1/tokens/t1/complete",
      "POST /api/v1/tokens/t1/complete",
      "POST /api/tokens/t1/complete",
    ]);
    expect(last()?.body).toEqual({});
  });

  it("reject what is no token, and pass refusals on", async () => {
    for (const bad of [[], { ...wireToken, status: "lost" }, { ...wireToken, id: 1 }]) {
      server.script(json(bad));
      await expect(client.tokens.retrieve("t1")).rejects.toThrow(InvalidResponseError);
    }
    server.script(json({ status: "maybe", token: wireToken }));
    await expect(client.tokens.complete("t1")).rejects.toThrow(InvalidResponseError);
    server.script(json({ tokens: null }));
    await expect(client.tokens.list()).rejects.toThrow(InvalidResponseError);
    server.script(json({ error: "the token was cancelled", code: "token_cancelled" }, 409));
    await expect(client.tokens.complete("t1")).rejects.toThrow(HelmrApiError);
    await expect(client.tokens.retrieve("..")).rejects.toThrow(TypeError);
  });

  it("at the top level: over HTTP outside a run, where wait throws", async () => {
    vi.stubEnv("HELMR_API_URL", server.url);
    server.script(json(wireToken, 201));
    const token = await tokens.create<{ go: boolean }>({ timeout: 60_000 });
    expect(last()).toMatchObject({ path: "/api/tokens", body: { timeout: 60_000 } });
    await expect((async () => await tokens.wait("019a0000-0000-7000-8000-000000000000"))()).rejects.toThrow(
      /inside a run/,
    );
    expect(token.wait).toBeTypeOf("function");
  });
});

describe("auth.createPublicToken", () => {
  const answer = {
    id: "p1",
    public_access_token: "hlmr_pat_x",
    scope: {
      type: "session.input.send",
      session: { type: "id", id: "s1" },
      stream: "answers",
      correlation_id: "c",
    },
    expires_at: "2026-07-06T12:00:00Z",
    max_uses: 2,
    created_at: "2026-06-06T12:00:00Z",
  };
  const asked = {
    type: "session.input.send",
    session: { externalId: "x" },
    stream: answers,
    correlationId: "c",
  } as const;

  it("asks on the unprefixed route, project and environment in the body", async () => {
    server.script(json(answer, 201), json({ ...answer, max_uses: undefined }, 201));
    const expiresAt = new Date("2026-07-06T12:00:00Z");
    expect(await client.auth.createPublicToken({ scope: asked, expiresAt, maxUses: 2, ...scope })).toEqual({
      id: "p1",
      publicAccessToken: "hlmr_pat_x",
      scope: { type: "session.input.send", session: { id: "s1" }, stream: "answers", correlationId: "c" },
      expiresAt: "2026-07-06T12:00:00Z",
      maxUses: 2,
      createdAt: "2026-06-06T12:00:00Z",
    });
    expect(last()).toMatchObject({ path: "/api/public-access-tokens" });
    expect(last()?.body).toEqual({
      project_id: "p",
      environment_id: "e",
      scope: {
        type: "session.input.send",
        session: { type: "external_id", external_id: "x" },
        stream: "answers",
        correlation_id: "c",
      },
      expires_at: "2026-07-06T12:00:00.000Z",
      max_uses: 2,
    });
    vi.stubEnv("HELMR_API_URL", server.url);
    const reading = { type: "session.output.read", session: "s1", stream: "news" } as const;
    expect(await auth.createPublicToken({ scope: reading })).not.toHaveProperty("maxUses");
    expect(last()?.body).toEqual({
      scope: { type: "session.output.read", session: { type: "id", id: "s1" }, stream: "news" },
    });
  });

  it("rejects a blank session, half a scope, and a definition of the other direction", async () => {
    for (const session of [
      { type: "id", id: " " },
      { type: "external_id", external_id: "" },
      { type: "id" },
    ]) {
      server.script(json({ ...answer, scope: { ...answer.scope, session } }, 201));
      await expect(client.auth.createPublicToken({ scope: asked })).rejects.toThrow(InvalidResponseError);
    }
    server.script();
    await expect(client.auth.createPublicToken({ scope: asked, projectId: "p" })).rejects.toThrow(
      /go together/,
    );
    const other = { ...asked, type: "session.output.read" } as const;
    await expect(client.auth.createPublicToken({ scope: other })).rejects.toThrow(/streams\.output/);
    expect(server.requests).toEqual([]);
  });
});
