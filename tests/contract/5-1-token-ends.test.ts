/** Contract 5.1 and the tokens of 1.6: completed by key, by public access token and by URL; cancelled; expired. */
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import { leaseRun } from "../../packages/control-plane/test/support/runs.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectShape } from "./support/stream-shapes.ts";
import { refusal } from "./support/strict.ts";
import {
  callBack,
  cancel,
  complete,
  create,
  get,
  makeDue,
  origin,
  post,
  publicly,
  publicUrl,
  server,
} from "./support/tokens.ts";

describe("§5.1 how a token ends", () => {
  /** Three ways to complete, which are one. */
  const ways = {
    "the keyed route": (token: { id: string }, body: object) => complete(token.id, body),
    "the public access token": (token: { id: string; public_access_token: string }, body: object) =>
      publicly(token.id, token.public_access_token, body),
    "the callback URL": (token: { callback_url: string }, body: object) => callBack(token.callback_url, body),
  } as const;
  const names = Object.keys(ways) as (keyof typeof ways)[];

  test.each(names)(
    "§5.1 by %s: completed once; same data again already_completed, other data → 409",
    async (name) => {
      const token = await create();
      const data = { b: [1, null], a: "é" };
      const first = await ways[name](token, { data });
      const again = await ways[name](token, { data: { a: "é", b: [1, null] } });
      for (const { status, body } of [first, again]) {
        expect(status).toBe(200);
        expectShape(body, shapes.tokenCompletion);
        expect(body.token).toMatchObject({ id: token.id, status: "completed", data });
      }
      expect([first.body.status, again.body.status]).toEqual(["completed", "already_completed"]);
      for (const other of [{ data: 1 }, {}]) {
        expect(refusal(await ways[name](token, other))).toEqual([409, "token_completion_conflict"]);
      }
      expect((await get(`/tokens/${token.id}`)).body.data).toEqual(data);
      for (const way of names) {
        expect((await ways[way](token, { data })).body.status).toBe("already_completed");
      }
      expect(refusal(await cancel(token.id))).toEqual([404, "token_not_found"]);
    },
  );

  test.each(names)("§5.1 by %s: a cancelled token → 409, one past its timeout → 410", async (name) => {
    const [gone, late] = [await create(), await create()];
    await cancel(gone.id);
    expect(refusal(await ways[name](gone, {}))).toEqual([409, "token_cancelled"]);
    expect(refusal(await cancel(gone.id))).toEqual([409, "token_cancelled"]);
    await makeDue(late.id);
    expect(refusal(await ways[name](late, {}))).toEqual([410, "token_expired"]);
    expect(refusal(await cancel(late.id))).toEqual([410, "token_expired"]);
    expect((await get(`/tokens/${late.id}`)).body.status).toBe("expired");
  });

  test.each(names)("§5 by %s: data is any JSON, absent it is null; the body is strict", async (name) => {
    for (const data of [null, 0, "", "a\0b", "\ud800", [[]], { "\0": 1 }]) {
      const { status, body } = await ways[name](await create(), { data });
      expect(status).toBe(200);
      expect(body.token).toHaveProperty("data");
      expect(body.token.data).toEqual(data);
    }
    const token = await create();
    expect((await ways[name](token, { x: 1 })).status).toBe(400);
    expect((await ways[name](token, {})).body.token.data).toBeNull();
    expect((await ways[name](token, { data: null })).body.status).toBe("already_completed");
  });

  test("§5.1 of the public access token: 30 days after the timeout it is expired", async () => {
    const token = await create();
    await publicly(token.id, token.public_access_token, { data: 1 });
    await makeDue(token.id, "29 days 23 hours");
    const retry = () => publicly(token.id, token.public_access_token, { data: 1 });
    expect((await retry()).body.status).toBe("already_completed");
    await makeDue(token.id, "30 days");
    expect(refusal(await retry())).toEqual([410, "token_expired"]);
  });

  test("§5.1 §1.4 a secret that is not the token's → 401 token_scope_denied", async () => {
    const [token, other] = [await create(), await create()];
    const secretOf = ({ callback_url }: { callback_url: string }) => callback_url.split("/").at(-1) ?? "";
    const denied = [401, "token_scope_denied"];
    const bearers = [
      null,
      "x",
      server.key,
      other.public_access_token,
      secretOf(token),
      `hlmr_pat_${"A".repeat(43)}`,
    ];
    for (const key of bearers) {
      expect(refusal(await publicly(token.id, key))).toEqual(denied);
    }
    for (const secret of ["x", secretOf(other), token.public_access_token, `${secretOf(token)}A`]) {
      const answer = await post(`/v1/tokens/${token.id}/callback/${secret}`, {}, { key: server.key });
      expect(refusal(answer)).toEqual(denied);
      expect(JSON.stringify(answer.body)).not.toContain(secretOf(token));
    }
    expect((await get(`/tokens/${token.id}`)).body.status).toBe("pending");
    expect((await get(`/tokens/${token.id}`, { key: token.public_access_token })).status).toBe(401);
    await sql`delete from tokens where id = ${other.id}`.execute(server.db);
    expect(refusal(await publicly(other.id, other.public_access_token))).toEqual([404, "token_not_found"]);
    expect(refusal(await callBack(other.callback_url))).toEqual([404, "token_not_found"]);
  });

  test.each(["complete", "cancel"])("§2.2 §5.1 %s ends the wait of the run for the token", async (verb) => {
    const { body } = await post("/sessions", { task_id: "hello" });
    const { id } = await create();
    await (await leaseRun(server, body.run.id)).wait({ kind: "token", tokenId: id });
    const waiting = (await get(`/runs/${body.run.id}`)).body;
    expect(waiting.status).toBe("waiting");
    expectShape(waiting.pending_wait, shapes.pendingWait);
    expect(waiting.pending_wait.kind).toBe("token");
    await post(`/tokens/${id}/${verb}`, verb === "cancel" ? {} : { data: "a\0b" });
    const after = (await get(`/runs/${body.run.id}`)).body;
    expect(after.status).toBe("running");
    expect(after).not.toHaveProperty("pending_wait");
  });
});

describe("§1.6 CORS of tokens", () => {
  const corsOf = ({ headers }: { headers: Headers }) =>
    Object.fromEntries(
      [...headers].filter(([name]) => name === "vary" || name.startsWith("access-control-")),
    );
  const ask = (path: string, from?: string) =>
    server.request("OPTIONS", path, undefined, {
      key: null,
      headers: { "access-control-request-method": "POST", ...(from !== undefined && { origin: from }) },
    });

  test("§1.6 OPTIONS of complete → 204, headers for the origin of the public URL only", async () => {
    const token = await create();
    const path = `/v1/tokens/${token.id}/complete`;
    const own = await ask(path, origin);
    expect([own.status, own.body]).toEqual([204, ""]);
    expect(corsOf(own)).toEqual({
      "access-control-allow-origin": origin,
      vary: "origin",
      "access-control-allow-methods": "POST, OPTIONS",
      "access-control-allow-headers": "authorization, content-type, Helmr-API-Version",
      "access-control-max-age": "600",
    });
    for (const from of [undefined, "null", publicUrl, "http://helmr.example.com", "https://example.com"]) {
      const other = await ask(path, from);
      expect([other.status, corsOf(other)]).toEqual([204, {}]);
    }
    const options = { key: token.public_access_token, headers: { origin } };
    const answer = await post(path, {}, options);
    expect([answer.status, answer.headers.get("access-control-allow-origin")]).toEqual([200, origin]);
  });

  test("§1.6 the callback URL and the keyed routes have no CORS", async () => {
    const token = await create();
    const callback = token.callback_url.slice(`${publicUrl}/api`.length);
    for (const path of [callback, `/tokens/${token.id}/complete`, "/tokens", "/public-access-tokens"]) {
      const preflight = await ask(path, origin);
      expect([preflight.status, corsOf(preflight)]).toEqual([404, {}]);
    }
    expect(corsOf(await post(callback, {}, { key: null, headers: { origin } }))).toEqual({});
  });
});
