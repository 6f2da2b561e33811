/** Contract 2.3 and 4.1: what is appended to streams, and the runs that input lets go on or starts. */
import { continueSessions } from "@helmr/store";
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import { leaseRun } from "../../packages/control-plane/test/support/runs.ts";
import {
  append,
  dataOf,
  get,
  post,
  run,
  runsOf,
  send,
  serial,
  server,
  session,
} from "./support/session-streams.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectShape } from "./support/stream-shapes.ts";
import { refusal } from "./support/strict.ts";

describe("§4.1 append", () => {
  test("§4.1 §2.3 201 {record, idempotency_status}: data as it was sent, 1-based per stream", async () => {
    const data = { z: [1, null, "é", 1.5e-7], a: { "": false } };
    const output = await append({ data, content_type: "text/x", correlation_id: "c" });
    expect(output.status).toBe(201);
    expectShape(output.body, shapes.outputAppend);
    expect(output.body).toMatchObject({
      record: { sequence: 1, content_type: "text/x", correlation_id: "c" },
      idempotency_status: "created",
    });
    expect(JSON.stringify(output.body.record.data)).toBe(JSON.stringify(data));
    const input = await send({ data });
    expect(input.status).toBe(201);
    expectShape(input.body, shapes.inputAppend);
    expect(input.body.record).toMatchObject({ sequence: 1, data, content_type: "application/json" });
    expect(input.body.record).not.toHaveProperty("correlation_id");
    expect((await append({}, "log")).body.record.sequence).toBe(1);
    expect((await append({})).body.record).toMatchObject({ sequence: 2, data: null });
  });

  test("§4.1 data is any JSON, also what a database cannot hold as jsonb", async () => {
    const values = [null, false, 0, "", "a\0b", "\ud800", [], {}, { "\0": 1 }, 2 ** 53, "x".repeat(70_000)];
    for (const data of values) {
      expect((await append({ data })).status).toBe(201);
      expect((await send({ data })).status).toBe(201);
    }
    expect(await dataOf(`/sessions/${session}/outputs/news`)).toEqual(values);
    expect(await dataOf(`/sessions/${session}/inputs/answers`)).toEqual(values);
  });

  test("§4.1 what a wait is given is any JSON, too", async () => {
    for (const data of ["a\0b", "\ud800", { "\0": "\0" }, null]) {
      const started = (await post("/sessions", { task_id: "hello" })).body;
      const leased = await leaseRun(server, started.run.id);
      await leased.wait({ kind: "stream", stream: "answers" });
      expect((await send({ data }, "answers", started.session.id)).status).toBe(201);
      expect((await get(`/runs/${started.run.id}`)).body.status).toBe("running");
    }
  });

  test.each(["inputs/answers", "outputs/news"])(
    "§4.1 %s: the same key is one record, still 201; other content → 409",
    async (rest) => {
      const path = `/sessions/${session}/${rest}`;
      const body = {
        data: { a: 1, b: 2 },
        correlation_id: "c",
        content_type: "text/x",
        idempotency_key: "k",
      };
      const first = await post(path, body);
      const again = await post(path, { ...body, data: { b: 2, a: 1 } });
      expect([first.status, again.status]).toEqual([201, 201]);
      expectShape(again.body, shapes.inputAppend);
      expect(again.body).toMatchObject({ idempotency_status: "duplicate", record: first.body.record });
      for (const other of [{ data: { a: 1 } }, { correlation_id: "d" }, { content_type: "text/y" }]) {
        expect(refusal(await post(path, { ...body, ...other }))).toEqual([
          409,
          "idempotency_fingerprint_mismatch",
        ]);
      }
      const { correlation_id: _id, ...without } = body;
      expect(refusal(await post(path, without))).toEqual([409, "idempotency_fingerprint_mismatch"]);
      expect(await dataOf(path)).toEqual([body.data]);
    },
  );

  test("§4.1 a key is one of its stream; up to 512 characters", async () => {
    const body = { data: 1, idempotency_key: "k".repeat(512) };
    for (const answer of [
      await append(body),
      await append(body, "log"),
      await send(body),
      await send(body, "questions"),
    ]) {
      expect(answer).toMatchObject({ status: 201, body: { idempotency_status: "created" } });
    }
    expect((await append({ idempotency_key: "k".repeat(513) })).status).toBe(400);
    expect((await send({ idempotency_key: "k".repeat(513) })).status).toBe(400);
  });

  test("§1.1 strict JSON: no body, unknown fields and a second value → 400", async () => {
    for (const rest of ["inputs/answers", "outputs/news"]) {
      const path = `/sessions/${session}/${rest}`;
      expect((await post(path)).status).toBe(400);
      for (const body of [{ data: 1, stream: "x" }, [], 1, { content_type: 1 }, { correlation_id: {} }]) {
        expect((await post(path, body)).status).toBe(400);
      }
      expect((await post(path, undefined, { raw: "{}{}" })).status).toBe(400);
      expect(await dataOf(path)).toEqual([]);
    }
  });

  test("§4.1 input needs an open session: expired → 410, closed and cancelled → 409", async () => {
    await sql`update sessions set expires_at = now() where id = ${session}`.execute(server.db);
    expect(refusal(await send({}))).toEqual([410, "session_expired"]);
    await sql`update sessions set expires_at = null where id = ${session}`.execute(server.db);
    await (await leaseRun(server, run)).finish();
    await post(`/sessions/${session}/close`, {});
    expect(refusal(await send({}))).toEqual([409, "session_terminal"]);
    const other = (await post("/sessions", { task_id: "hello" })).body.session.id;
    await post(`/sessions/${other}/cancel`, {});
    expect(refusal(await send({}, "answers", other))).toEqual([409, "session_terminal"]);
    expect(await dataOf(`/sessions/${other}/inputs/answers`)).toEqual([]);
  });
});

describe("§4.1 continuation", () => {
  test("§4.1 accepted_run_pending, duplicate, and the next run once the current one is terminal", async () => {
    const first = await send({ data: 1 });
    expectShape(first.body, shapes.inputAppend);
    expect(first.body.continuation_status).toBe("accepted_run_pending");
    expect((await send({ data: 2 })).body.continuation_status).toBe("duplicate");
    await (await leaseRun(server, run)).finish();
    await continueSessions(server.db, { limit: 100, sessionIds: [session] });
    const runs = await runsOf(session);
    expect(runs).toHaveLength(2);
    expect(runs[1]).toMatchObject({ previous_run_id: run, turn_index: 1 });
  });

  test("§4.1 created: same payload, turn_index + 1, becomes current_run", async () => {
    await (await leaseRun(server, run)).finish();
    const { body } = await send({ data: 1 });
    expectShape(body, shapes.inputAppend);
    expect(body.continuation_status).toBe("created");
    const [, next] = await runsOf(session);
    expect(next).toMatchObject({ previous_run_id: run, turn_index: 1, status: "queued" });
    expect((await get(`/sessions/${session}`)).body.current_run_id).toBe(next.run_id);
    const { rows } = await sql<{ payload: string }>`select payload::text from runs
      where session_id = ${session} order by turn_index`.execute(server.db);
    expect(rows.map(({ payload }) => JSON.parse(payload))).toEqual([{ n: serial }, { n: serial }]);
  });

  test("§4.1 the same input again asks for no second run", async () => {
    await (await leaseRun(server, run)).finish();
    const body = { data: 1, idempotency_key: "k" };
    expect((await send(body)).body.continuation_status).toBe("created");
    expect((await send(body)).body).toMatchObject({ idempotency_status: "duplicate" });
    expect(await runsOf(session)).toHaveLength(2);
  });

  test("§4.1 §2.2 input ends the wait for it, of its correlation id; then there is no continuation_status", async () => {
    const leased = await leaseRun(server, run);
    const wait = await leased.wait({
      kind: "stream",
      stream: "answers",
      correlationId: "c",
      timeoutMs: 60_000,
    });
    const waiting = (await get(`/runs/${run}`)).body;
    expect(waiting.status).toBe("waiting");
    expectShape(waiting.pending_wait, shapes.pendingWait);
    expect(waiting.pending_wait).toMatchObject({ id: wait.id, kind: "stream" });
    expect(waiting.pending_wait).toHaveProperty("timeout_at");
    expect((await get(`/sessions/${session}`)).body).toMatchObject({ activity: "waiting", can_close: false });
    for (const other of [{ correlation_id: "d" }, {}]) {
      expect((await send(other)).body).toHaveProperty("continuation_status");
      expect((await get(`/runs/${run}`)).body.status).toBe("waiting");
    }
    const { body } = await send({ data: "go", correlation_id: "c" });
    expectShape(body, shapes.outputAppend);
    const after = (await get(`/runs/${run}`)).body;
    expect(after.status).toBe("running");
    expect(after).not.toHaveProperty("pending_wait");
  });

  test("§2.2 a wait without a time limit has no timeout_at", async () => {
    await (await leaseRun(server, run)).wait({ kind: "stream", stream: "answers" });
    const { pending_wait } = (await get(`/runs/${run}`)).body;
    expectShape(pending_wait, shapes.pendingWait);
    expect(pending_wait).not.toHaveProperty("timeout_at");
  });
});
