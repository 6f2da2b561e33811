/** Contract 7 of live copies, and 7.3-7.6: each answer and frame held to what strict clients take. */
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  type LiveCopy,
  type LiveWorker,
  output,
  registerLiveWorker,
} from "../../packages/control-plane/test/support/live-worker.ts";
import {
  type RequestOptions,
  startTestServer,
  type TestServer,
} from "../../packages/control-plane/test/support/server.ts";
import { openStream, type SseFrame, takeAll } from "../../packages/control-plane/test/support/sse.ts";
import { refusal, strictRequest } from "./support/strict.ts";
import * as shapes from "./support/workspace-command-shapes.ts";
import { expectList, expectShape } from "./support/workspace-command-shapes.ts";

let server: TestServer;
let worker: LiveWorker;
let workspaceId: string;
const unknown = "019a0000-0000-7000-8000-000000000000";
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope);
  worker = await registerLiveWorker(server);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await sql`update workspace_materializations set state = 'stopped', ended_at = now() where ended_at is null`.execute(
    server.db,
  );
  workspaceId = (await server.request("POST", "/workspaces", { sandbox_id: "box" })).body.workspace.id;
});

const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", `/workspaces/${workspaceId}${path}`, body, options);
const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", `/workspaces/${workspaceId}${path}`, undefined, options);
const base64 = (text: string) => Buffer.from(text).toString("base64");

async function running(body: object = {}): Promise<{ id: string; copy: LiveCopy }> {
  const { id } = (await post("/execs", { command: ["cat"], ...body })).body.exec;
  const copy = await worker.bringUp();
  await copy.append({ kind: "exec.started", exec_id: id, pid: 4 });
  return { id, copy };
}

async function open(): Promise<{ id: string; copy: LiveCopy }> {
  const { id } = (await post("/pty", {})).body.pty;
  const copy = await worker.bringUp();
  await copy.append({ kind: "pty.opened", pty_id: id, pid: 4 });
  return { id, copy };
}

const follow = async (path: string, headers: Record<string, string> = {}): Promise<SseFrame[]> =>
  await takeAll(await openStream(`${server.url}/api/workspaces/${workspaceId}${path}`, server.key, headers));

describe("§7 live copies", () => {
  test("§7 materialize and connect: `{}` is required; 201, then 200; bare", async () => {
    for (const path of ["/materialize", "/connect"]) {
      expect(refusal(await post(path))).toEqual([400, undefined]);
      expect(refusal(await post(path, { force: true }))).toEqual([400, undefined]);
    }
    const first = await post("/connect", {});
    expect(first.status).toBe(201);
    expectShape(first.body, shapes.materialization);
    const second = await post("/materialize", {});
    expect(second).toMatchObject({ status: 200, body: { id: first.body.id } });
    await worker.bringUp();
    const third = (await post("/connect", {})).body;
    expectShape(third, shapes.materialization);
    expect(third).toMatchObject({ state: "running", worker_instance_id: worker.id });
  });

  test("§7 §7.1 stop: bare; without a live copy there is no materialization key", async () => {
    const none = await post("/stop");
    expect(none).toMatchObject({ status: 200, body: { state: "no_active_materialization" } });
    expectShape(none.body, shapes.stop);
    expect(none.body).not.toHaveProperty("materialization");
    expect((await get("")).body.workspace.desired_state).toBe("stopped");
    await post("/materialize", {});
    await worker.bringUp();
    const stopped = await post("/stop", { idempotency_key: "k", idempotency_key_ttl: "24h" });
    expectShape(stopped.body, shapes.stop);
    expect(stopped.body.state).toBe(stopped.body.materialization.state);
    expect(refusal(await post("/stop", { idempotency_key: "k", idempotency_key_ttl: "2d" }))[0]).toBe(400);
  });

  test("§7 a workspace that nobody has is 404, one that is no UUID 400; another scope's is 404", async () => {
    const elsewhere = await server.newKey((await seedEnvironment(server.db)).scope);
    for (const [path, body] of [
      ["/materialize", {}],
      ["/connect", {}],
      ["/stop", {}],
      ["/execs", { command: ["ls"] }],
      ["/pty", {}],
    ] as const) {
      const at = (id: string, key = server.key) =>
        strictRequest(server, "POST", `/workspaces/${id}${path}`, body, { key });
      expect((await at("no-uuid")).status).toBe(400);
      for (const missing of [await at(unknown), await at(workspaceId, elsewhere)])
        expect([missing.status, missing.body.error]).toEqual([404, "workspace not found"]);
    }
    for (const path of ["/execs", "/pty"]) expect((await get(path, { key: elsewhere })).status).toBe(404);
  });
});

describe("§7.3 execs", () => {
  test("§7.3 §7.1 create: 201 and materializing, queued where the workspace runs; cached: 200 with is_cached", async () => {
    const body = {
      command: ["ls"],
      cwd: "/workspace",
      env: { A: "1" },
      detached: true,
      idempotency_key: "k",
    };
    const created = await post("/execs", body);
    expect(created.status).toBe(201);
    expectShape(created.body, shapes.createdExec);
    expect(created.body).not.toHaveProperty("is_cached");
    expect(created.body.exec).toMatchObject({
      state: "materializing",
      env_shape: { A: "1" },
      detached: true,
    });
    const copy = await worker.bringUp();
    const again = await post("/execs", body);
    expectShape(again.body, shapes.createdExec);
    expect(again).toMatchObject({
      status: 200,
      body: { is_cached: true, exec: { id: created.body.exec.id } },
    });
    await copy.append({ kind: "exec.exited", exec_id: created.body.exec.id, state: "exited", exit_code: 0 });
    const next = await post("/execs", { command: ["ls"] });
    expect(next.body.exec).toMatchObject({ state: "queued", cwd: "", detached: false });
    expect(next.body.exec).not.toHaveProperty("env_shape");
    expectList((await get("/execs")).body, "execs", shapes.exec);
    expectShape((await get(`/execs/${next.body.exec.id}`)).body, shapes.execEnvelope);
  });

  test.each([
    ["command", { command: ["rm"] }],
    ["cwd", { cwd: "/tmp" }],
    ["env", { env: { A: "2" } }],
    ["detached", { detached: true }],
  ])("§7.3 the fingerprint has the %s", async (_part, change) => {
    const body = { command: ["ls"], cwd: "/workspace", env: { A: "1" }, idempotency_key: "k" };
    await post("/execs", body);
    expect(refusal(await post("/execs", { ...body, ...change }))).toEqual([
      409,
      "idempotency_fingerprint_mismatch",
    ]);
  });

  test("§7.3 §7.4 one writer at a time, of whichever kind", async () => {
    await post("/execs", { command: ["sleep"] });
    const refused = [409, "workspace_writer_active"];
    expect(refusal(await post("/execs", { command: ["ls"] }))).toEqual(refused);
    expect(refusal(await post("/pty", {}))).toEqual(refused);
  });

  test("§7 lists: state and limit are checked", async () => {
    for (const list of ["/execs", "/pty"]) {
      for (const query of ["?limit=0", "?limit=201", "?state=unknown"])
        expect(refusal(await get(`${list}${query}`))[0]).toBe(400);
      expect((await get(`${list}?limit=200`)).status).toBe(200);
    }
  });
});

describe("§7.5 input", () => {
  test("§7.5 stdin and pty input answer bare chunks; the same chunk again is the same", async () => {
    const { id, copy } = await running();
    const written = await post(`/execs/${id}/stdin`, { offset: 0, data: base64("ab") });
    expect(written.status).toBe(200);
    expectShape(written.body, shapes.chunk);
    expect((await post(`/execs/${id}/stdin`, { offset: 0, data: base64("ab") })).body).toEqual(written.body);
    const conflict = [409, "workspace_stream_offset_conflict"];
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: 1, data: base64("b") }))).toEqual(conflict);
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: 3, data: base64("c") }))).toEqual(conflict);
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: 2, data: "" }))[0]).toBe(400);
    expectShape((await post(`/execs/${id}/stdin/close`, "what ever")).body, shapes.execEnvelope);
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: 2, data: base64("c") }))).toEqual([
      409,
      "workspace_exec_stdin_closed",
    ]);
    await copy.append({ kind: "exec.exited", exec_id: id, state: "exited", exit_code: 0 });
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: 2, data: base64("c") }))).toEqual([
      409,
      "workspace_exec_terminal",
    ]);
  });

  test("§7.5 1 MiB is the most, decoded", async () => {
    const { id } = await running();
    const large = Buffer.alloc(1024 * 1024, "x");
    expect((await post(`/execs/${id}/stdin`, { offset: 0, data: large.toString("base64") })).status).toBe(
      200,
    );
    const data = Buffer.concat([large, large.subarray(0, 1)]).toString("base64");
    expect(refusal(await post(`/execs/${id}/stdin`, { offset: large.length, data }))).toEqual([
      413,
      undefined,
    ]);
  });
});

describe("§7.4 ptys", () => {
  test("§7.4 §7.5 refused while creating, taken while open and resizing, closed once", async () => {
    const { id, copy } = await open();
    const typed = await post(`/pty/${id}/input`, { offset: 0, data: base64("x") });
    expectShape(typed.body, shapes.chunk);
    expect(typed.body.stream).toBe("input");
    const resized = await post(`/pty/${id}/resize`, { cols: 500, rows: 500 });
    expectShape(resized.body, shapes.ptyEnvelope);
    expect(resized.body.pty.state).toBe("resizing");
    expect((await post(`/pty/${id}/input`, { offset: 1, data: base64("y") })).status).toBe(200);
    expectShape((await post(`/pty/${id}/close`)).body, shapes.ptyEnvelope);
    const notOpen = [409, "workspace_pty_not_open"];
    expect(refusal(await post(`/pty/${id}/resize`, { cols: 1, rows: 1 }))).toEqual(notOpen);
    await copy.append({ kind: "pty.closed", pty_id: id, state: "closed" });
    expect(refusal(await post(`/pty/${id}/close`))).toEqual(notOpen);
    expect(refusal(await post(`/pty/${id}/input`, { offset: 2, data: base64("z") }))).toEqual([
      409,
      "workspace_pty_terminal",
    ]);
    const creating = await post("/pty", { cols: 501 });
    expect(creating.status).toBe(400);
    const next = await post("/pty", {});
    expectShape(next.body, shapes.createdPty);
    expect(next.body.pty).toMatchObject({ cols: 80, rows: 24, state: "creating" });
    const path = `/pty/${next.body.pty.id}/input`;
    expect(refusal(await post(path, { offset: 0, data: base64("x") }))).toEqual(notOpen);
    expectList((await get("/pty")).body, "ptys", shapes.pty);
  });
});

describe("§7.6 output", () => {
  test("§7.6 list: whole chunks after the cursor; a straddling one untrimmed; 410 where it is gone", async () => {
    const { id, copy } = await running();
    await copy.append(output(id, "stdout", 0, "abc"), output(id, "stdout", 3, "de"));
    expectList((await get(`/execs/${id}/stdout`)).body, "chunks", shapes.chunk);
    const [straddling] = (await get(`/execs/${id}/stdout?cursor=2&limit=1`)).body.chunks;
    expect(straddling).toMatchObject({ offset_start: 0, offset_end: 3, data: "YWJj" });
    await sql`update workspace_execs set stdout_retained = 3 where id = ${id}`.execute(server.db);
    expect(refusal(await get(`/execs/${id}/stdout?cursor=2`))).toEqual([
      410,
      "workspace_stream_cursor_expired",
    ]);
    const [frame, ...more] = await follow(`/execs/${id}/stdout?follow=1&cursor=2`);
    expect([frame?.event, more]).toEqual(["workspace_stream_error", []]);
    expectShape(frame?.data, shapes.errorFrame);
  });

  test("§7.6 stream: ids are ends of chunks, all of them before the terminal frame; the query's cursor wins", async () => {
    const { id, copy } = await running();
    await copy.append(output(id, "stderr", 0, "abc"), output(id, "stderr", 3, "de"), {
      kind: "exec.exited",
      exec_id: id,
      state: "terminated",
      signal: "SIGKILL",
    });
    const frames = await follow(`/execs/${id}/stderr?follow=1&limit=1`);
    expect(frames.map(({ id: at, event }) => [at, event])).toEqual([
      ["3", "workspace_stream_chunk"],
      ["5", "workspace_stream_chunk"],
      ["5", "workspace_stream_terminal"],
    ]);
    for (const { data } of frames.slice(0, 2)) expectShape(data, shapes.chunk);
    expectShape(frames[2]?.data, shapes.terminalFrame);
    expect(frames[2]?.data).toMatchObject({
      state: "terminated",
      cursor: 5,
      resource_kind: "workspace_exec",
    });
    const header = { accept: "text/event-stream", "last-event-id": "3" };
    expect((await follow(`/execs/${id}/stderr`, header)).map(({ id: at }) => at)).toEqual(["5", "5"]);
    expect(await follow(`/execs/${id}/stderr?cursor=5`, header)).toHaveLength(1);
  });

  test("§7.6 a lost pty has its own last frame", async () => {
    const { id } = await open();
    worker = await registerLiveWorker(server, worker.id);
    const [last, ...more] = await follow(`/pty/${id}/output?follow=1`);
    expect([last?.event, more]).toEqual(["workspace_stream_lost", []]);
    expectShape(last?.data, shapes.terminalFrame);
    expect(last?.data).toMatchObject({ state: "lost", resource_kind: "workspace_pty", stream: "output" });
    expect((await get(`/pty/${id}`)).body.pty).toMatchObject({
      state: "lost",
      closed_at: expect.any(String),
    });
  });
});
