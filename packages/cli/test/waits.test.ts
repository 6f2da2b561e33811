/** Streams and tokens from the command line: what is sent, what is printed, how a follow goes on and ends. */
import { describe, expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { type Answer, scriptedServer } from "./support/scripted-server.ts";
import { ids, run, session } from "./support/wire.ts";

const tokenId = "01990000-0000-7000-8000-000000000099";
const at = "2026-06-06T12:00:00.000Z";
const record = (sequence: number, data: unknown, more: object = {}) => ({
  id: `r${sequence}`,
  stream_id: "st",
  sequence,
  data,
  content_type: "application/json",
  created_at: at,
  ...more,
});
const token = (more: object = {}) => ({
  id: tokenId,
  status: "pending",
  timeout_at: at,
  metadata: {},
  ...more,
});
const bodyOf = (asked: { body: Buffer } | undefined) =>
  JSON.parse(asked?.body.toString() ?? "null") as unknown;

describe("session input send", () => {
  const appended = {
    record: record(4, { ok: true }),
    idempotency_status: "created",
    continuation_status: "created",
  };

  it("sends what it is given", async () => {
    await using server = await scriptedServer({
      [`POST /sessions/${ids.session}/inputs/answers`]: { status: 201, json: appended },
    });
    const words = ["session", "input", "send", ids.session, "answers", "--data", '{"ok":true}'];
    const options = ["--correlation-id", "c", "--idempotency-key", "k"];
    const result = await helmr([...words, ...options], { url: server.url });
    expect(result).toMatchObject({ exitCode: 0, out: "" });
    expect(result.err).toContain("record 4 of answers; no run was under way: a new one is queued");
    expect(bodyOf(server.asked[0])).toEqual({
      data: { ok: true },
      correlation_id: "c",
      idempotency_key: "k",
    });
    const json = await helmr([...words, "--json"], { url: server.url });
    expect(JSON.parse(json.out)).toEqual(appended);
  });

  it("reads stdin, and names the session by its external id", async () => {
    await using server = await scriptedServer({
      "POST /sessions/by-external-id/inputs/answers": {
        status: 201,
        json: { ...appended, idempotency_status: "duplicate", continuation_status: "accepted_run_pending" },
      },
    });
    const words = ["session", "input", "send", "--external-id", "order 7", "answers"];
    const result = await helmr(words, { url: server.url, input: "[1]" });
    expect(result.exitCode).toBe(0);
    expect(result.err).toContain("which was there already; the run takes it, or a new one follows it");
    expect(server.asked[0]?.query.get("external_id")).toBe("order 7");
    expect(bodyOf(server.asked[0])).toEqual({ data: [1] });
  });

  it.each([
    [["session", "input", "send", "answers"], "name a session and a stream"],
    [
      ["session", "input", "send", "--external-id", "x", ids.session, "answers"],
      "name a session and a stream",
    ],
    [["session", "input", "send", ids.session, "answers", "--data", "{"], "--data is not valid JSON"],
    [["session", "output", "list", ids.session, "news", "--limit", "501"], "from 1 to 500"],
  ])("%j is a mistake in the command line", async (words, says) => {
    await using server = await scriptedServer({});
    const result = await helmr(words, { url: server.url });
    expect(result.exitCode).toBe(2);
    expect(result.err).toContain(says);
    expect(server.asked).toEqual([]);
  });

  it("says what the server says", async () => {
    const refusal = { error: "the session is not open any more; start a new one", code: "session_terminal" };
    await using server = await scriptedServer({
      [`POST /sessions/${ids.session}/inputs/answers`]: { status: 409, json: refusal },
    });
    const words = ["session", "input", "send", ids.session, "answers", "--data", "1"];
    const result = await helmr(words, { url: server.url });
    expect(result.exitCode).not.toBe(0);
    expect(result.err).toContain("session_terminal");
  });
});

describe("session streams, input list, output list and read", () => {
  const path = `GET /sessions/${ids.session}/outputs/news`;

  it("list", async () => {
    const streams = [
      { id: "st", session_id: ids.session, name: "news", direction: "output", sequence: 2, created_at: at },
    ];
    const records = [record(3, { a: 1 }, { correlation_id: "c" })];
    await using server = await scriptedServer({
      [`GET /sessions/${ids.session}/streams`]: { json: { streams } },
      [path]: { json: { records } },
      [`GET /sessions/${ids.session}/inputs/answers`]: { json: { records } },
    });
    const listed = await helmr(["session", "streams", ids.session], { url: server.url });
    expect(listed.out).toBe("output\tnews\t2\n");
    const words = ["session", "output", "list", ids.session, "news"];
    const options = ["--after", "2", "--limit", "1", "--correlation-id", "c"];
    const table = await helmr([...words, ...options], { url: server.url });
    expect(table.out).toBe(`3\t${at}\tc\t{"a":1}\n`);
    expect(table.err).toContain("--after 3");
    expect(Object.fromEntries(server.asked.at(-1)?.query ?? [])).toEqual({
      correlation_id: "c",
      after_sequence: "2",
      limit: "1",
    });
    const json = await helmr(["session", "input", "list", ids.session, "answers", "--json"], {
      url: server.url,
    });
    expect(JSON.parse(json.out)).toEqual({ records });
  });

  it("read the next one, or say that there is none", async () => {
    let records: unknown[] = [];
    await using server = await scriptedServer({
      [path]: (_asked, response) => {
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ records }));
      },
    });
    const words = ["session", "output", "read", ids.session, "news"];
    expect(await helmr(words, { url: server.url })).toMatchObject({ exitCode: 0, out: "" });
    expect((await helmr([...words, "--json"], { url: server.url })).out).toBe('{"record":null}\n');
    records = [record(1, { a: 1 })];
    expect((await helmr(words, { url: server.url })).out).toBe('{"a":1}\n');
    expect((await helmr([...words, "--follow"], { url: server.url })).out).toBe('{"a":1}\n');
  });

  it("follow: each record once, across a lost connection, to the session's end", async () => {
    const pages: (unknown[] | "cut")[] = [[record(1, "a"), record(2, "b")], "cut", [record(3, "c")], [], []];
    let asked = 0;
    const answer: Answer = (request, response) => {
      const page = pages[asked];
      asked += 1;
      if (page === "cut" || page === undefined) return void response.destroy();
      expect(request.query.get("after_sequence")).toBe(["0", "2", "2", "3", "3"][asked - 1]);
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ records: page }));
    };
    await using server = await scriptedServer({
      [path]: answer,
      [`GET /sessions/${ids.session}`]: (_request, response) => {
        const status = asked >= 4 ? "closed" : "open";
        response
          .writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify(session({ status, activity: "idle" })));
      },
    });
    const words = ["session", "output", "list", ids.session, "news", "--follow", "--json"];
    const result = await helmr(words, { url: server.url });
    expect(result.exitCode).toBe(0);
    const lines = result.out
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { data: unknown });
    expect(lines.map(({ data }) => data)).toEqual(["a", "b", "c"]);
    expect(asked).toBe(5);
  });
});

describe("token", () => {
  it("create shows the secrets", async () => {
    const created = token({
      tags: ["a"],
      callback_url: "https://x/cb",
      public_access_token: "hlmr_public_access_x",
    });
    await using server = await scriptedServer({ "POST /tokens": { status: 201, json: created } });
    const words = [
      "token",
      "create",
      "--timeout",
      "2h",
      "--tag",
      "a",
      "--metadata",
      '{"n":1}',
      "--idempotency-key",
      "k",
    ];
    const result = await helmr(words, { url: server.url });
    expect(result.out).toContain("callback url\thttps://x/cb\n");
    expect(result.out).toContain("public access token\thlmr_public_access_x\n");
    expect(bodyOf(server.asked[0])).toEqual({
      timeout: "2h",
      tags: ["a"],
      metadata: { n: 1 },
      idempotency_key: "k",
    });
  });

  it("list, get and cancel", async () => {
    await using server = await scriptedServer({
      "GET /tokens": { json: { tokens: [token()], next_cursor: tokenId } },
      [`GET /tokens/${tokenId}`]: { json: token({ status: "completed", data: null }) },
      [`POST /tokens/${tokenId}/cancel`]: { json: token({ status: "cancelled" }) },
    });
    const list = ["token", "list", "--status", "pending", "--after", tokenId, "--limit", "1"];
    const listed = await helmr(list, { url: server.url });
    expect(listed.out).toBe(`${tokenId}\tpending\t${at}\t\n`);
    expect(listed.err).toContain(`--after ${tokenId}`);
    expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({
      status: "pending",
      cursor: tokenId,
      limit: "1",
    });
    expect((await helmr(["token", "get", tokenId], { url: server.url })).out).toContain("data\tnull\n");
    const cancelled = await helmr(["token", "cancel", tokenId], { url: server.url });
    expect(cancelled).toMatchObject({ exitCode: 0, err: `token ${tokenId} is cancelled\n` });
  });

  it("complete sends the data, or none", async () => {
    let status = "completed";
    await using server = await scriptedServer({
      [`POST /tokens/${tokenId}/complete`]: (_asked, response) => {
        const body = JSON.stringify({ status, token: token({ status: "completed", data: 1 }) });
        response.writeHead(200, { "content-type": "application/json" }).end(body);
      },
    });
    const complete = (...more: string[]) =>
      helmr(["token", "complete", tokenId, ...more], { url: server.url, input: "[2]" });
    expect((await complete("--data", '{"ok":true}')).err).toContain(`token ${tokenId} is completed`);
    expect(bodyOf(server.asked[0])).toEqual({ data: { ok: true } });
    status = "already_completed";
    expect((await complete()).err).toContain("completed with the same data already");
    expect(bodyOf(server.asked[1])).toEqual({});
    await complete("--data", "-");
    expect(bodyOf(server.asked[2])).toEqual({ data: [2] });
  });
});

describe("run get", () => {
  const shown = async (pending_wait: object) => {
    const waiting = run({ status: "waiting", exit_code: null, pending_wait });
    await using server = await scriptedServer({ [`GET /runs/${ids.run}`]: { json: waiting } });
    const result = await helmr(["run", "get", ids.run], { url: server.url });
    return Object.fromEntries(
      result.out
        .trim()
        .split("\n")
        .map((line) => line.split("\t")),
    );
  };

  it("says what the run waits for, since and until when, and what lets it go on", async () => {
    const until = "2026-06-13T12:00:00.000Z";
    const wait = { id: "w", created_at: at, timeout_at: until };
    expect(await shown({ ...wait, kind: "token", params: { token_id: tokenId } })).toMatchObject({
      "waits for": `token ${tokenId}`,
      since: at,
      until,
      "to go on": `helmr token complete ${tokenId} --data <json>`,
    });
    const params = { stream: "answers", after_sequence: 0, correlation_id: "it's" };
    expect(await shown({ id: "w", created_at: at, kind: "stream", params })).toMatchObject({
      "waits for": "input on answers with correlation id it's",
      "to go on": `helmr session input send ${ids.session} answers --correlation-id 'it'\\''s' --data <json>`,
    });
    const timer = await shown({ ...wait, kind: "timer", params: { due_at: until } });
    expect(timer).toMatchObject({ "waits for": "a timer", until });
    expect(timer).not.toHaveProperty("to go on");
  });
});
