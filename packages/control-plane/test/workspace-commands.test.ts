/** Execs and ptys over HTTP, with a worker played over its own routes: every answer and frame of contract 7.3-7.6. */

import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type LiveCopy, type LiveWorker, output, registerLiveWorker } from "./support/live-worker.ts";
import { startTestServer, type TestServer } from "./support/server.ts";
import { openStream, take, takeAll } from "./support/sse.ts";
import { unlimited } from "./support/unlimited.ts";

let server: TestServer;
let worker: LiveWorker;
let at: string;
beforeAll(async () => {
  server = await startTestServer({ rateLimits: unlimited });
  await seedTask(server.db, server.scope);
  worker = await registerLiveWorker(server);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await sql`update workspace_materializations set state = 'stopped', ended_at = now() where ended_at is null`.execute(
    server.db,
  );
  const created = await server.request("POST", "/workspaces", { sandbox_id: "box" });
  at = `/workspaces/${created.body.workspace.id}`;
});

const post = (path: string, body: object = {}) => server.request("POST", `${at}${path}`, body);
const get = (path: string) => server.request("GET", `${at}${path}`);
const base64 = (text: string | Buffer) => Buffer.from(text).toString("base64");
const follow = (path: string, headers: Record<string, string> = {}) =>
  openStream(`${server.url}/api${at}${path}`, server.key, headers);

async function runningExec(body: object = {}): Promise<{ id: string; copy: LiveCopy }> {
  const created = await post("/execs", { command: ["cat"], ...body });
  expect(created.status).toBe(201);
  const copy = await worker.bringUp();
  const { id } = created.body.exec;
  await copy.command("exec.start");
  await copy.append({ kind: "exec.started", exec_id: id, pid: 7 });
  return { id, copy };
}

async function openPty(body: object = {}): Promise<{ id: string; copy: LiveCopy }> {
  const { id } = (await post("/pty", body)).body.pty;
  const copy = await worker.bringUp();
  await copy.command("pty.start");
  await copy.append({ kind: "pty.opened", pty_id: id, pid: 8 });
  return { id, copy };
}

describe("creating an exec", () => {
  test("implies a live copy; the worker gets all of it, and the audit log no value", async () => {
    const body = { command: ["sh", "-c", "echo $A"], cwd: "/workspace/src", env: { A: "planted-value" } };
    const created = await post("/execs", body);
    expect(created).toMatchObject({
      status: 201,
      body: {
        exec: {
          command: body.command,
          cwd: body.cwd,
          env_shape: body.env,
          filesystem_mode: "write",
          state: "materializing",
          detached: false,
          stdout_cursor: 0,
          stderr_cursor: 0,
          stdin_cursor: 0,
        },
      },
    });
    expect(created.body.is_cached).toBeUndefined();
    const copy = await worker.bringUp();
    const { id } = created.body.exec;
    expect((await get(`/execs/${id}`)).body.exec).toMatchObject({
      state: "queued",
      materialization_id: copy.id,
    });
    expect(await copy.command("exec.start")).toMatchObject({ exec_id: id, ...body });
    const { rows } = await sql<{ text: string }>`select jsonb_agg(a)::text as text from audit_log a`.execute(
      server.db,
    );
    expect(rows[0]?.text).toContain("workspace.exec.create");
    expect(rows[0]?.text).not.toContain("planted-value");
  });

  test.each([
    ["no command", {}],
    ["an empty command", { command: [] }],
    ["a blank word", { command: ["ls", " "] }],
    ["a NUL", { command: ["a\0b"] }],
    ["a relative cwd", { command: ["ls"], cwd: "src" }],
    ["a cwd with ..", { command: ["ls"], cwd: "/workspace/../etc" }],
    ["an env value that is no text", { command: ["ls"], env: { A: 1 } }],
    ["an unknown field", { command: ["ls"], mode: "read" }],
  ])("%s: 400", async (_name, body) => {
    expect((await post("/execs", body)).status).toBe(400);
    expect((await get("/execs")).body).toEqual({ execs: [] });
  });

  test("while another exec or pty is active: 409; a key gives the same exec again", async () => {
    const body = { command: ["sleep", "1"], idempotency_key: "k" };
    const first = await post("/execs", body);
    const again = await post("/execs", body);
    expect(again).toMatchObject({ status: 200, body: { is_cached: true, exec: { id: first.body.exec.id } } });
    expect(await post("/execs", { ...body, command: ["other"] })).toMatchObject({
      status: 409,
      body: { code: "idempotency_fingerprint_mismatch" },
    });
    const refused = { status: 409, body: { code: "workspace_writer_active" } };
    expect(await post("/execs", { command: ["ls"] })).toMatchObject(refused);
    expect(await post("/pty")).toMatchObject(refused);
    expect((await get("/execs?state=materializing")).body.execs).toHaveLength(1);
    expect((await get("/execs?state=running")).body.execs).toEqual([]);
  });

  test("waits for a copy that is being stopped, and runs in the next one", async () => {
    await post("/materialize");
    const copy = await worker.bringUp();
    expect((await post("/stop")).body.state).toBe("stopping");
    const created = post("/execs", { command: ["true"] });
    await copy.command("stop");
    await copy.finish();
    expect(await created).toMatchObject({ status: 201, body: { exec: { state: "materializing" } } });
    const next = await worker.bringUp();
    expect(next.id).not.toBe(copy.id);
  });

  test("of an archived workspace: 409 workspace_not_active", async () => {
    await server.request("DELETE", at);
    expect(await post("/execs", { command: ["true"] })).toMatchObject({
      status: 409,
      body: { code: "workspace_not_active" },
    });
  });
});

describe("stdin", () => {
  test("is written where it stands; the same chunk again is the same chunk; else it says why not", async () => {
    const { id, copy } = await runningExec();
    const write = (offset: number, data: string) => post(`/execs/${id}/stdin`, { offset, data });
    const first = await write(0, base64("hello"));
    expect(first).toMatchObject({
      status: 200,
      body: { stream: "stdin", offset_start: 0, offset_end: 5, data: base64("hello") },
    });
    expect(await write(0, base64("hello"))).toMatchObject({ status: 200, body: { id: first.body.id } });
    const conflict = { status: 409, body: { code: "workspace_stream_offset_conflict" } };
    expect(await write(0, base64("hullo"))).toMatchObject(conflict);
    expect(await write(3, base64("x"))).toMatchObject(conflict);
    expect(await write(6, base64("x"))).toMatchObject(conflict);
    expect((await write(5, "")).status).toBe(400);
    expect((await write(5, "not base64")).status).toBe(400);
    expect((await write(5, "eA")).status).toBe(400);
    expect((await write(-1, "eA==")).status).toBe(400);
    const large = Buffer.alloc(1024 * 1024, 1);
    expect((await write(5, base64(Buffer.alloc(large.length + 1)))).status).toBe(413);
    expect((await write(5, base64(large))).status).toBe(200);
    expect(await copy.command("exec.stdin")).toMatchObject({
      exec_id: id,
      offset: 0,
      data: Buffer.from("hello"),
    });
    expect((await copy.command("exec.stdin")).data.equals(large)).toBe(true);
    expect((await get(`/execs/${id}`)).body.exec.stdin_cursor).toBe(5 + large.length);
  });

  test("two writers at one offset: one is taken", async () => {
    const { id } = await runningExec();
    const answers = await Promise.all(
      ["a", "b", "c", "d"].map((text) => post(`/execs/${id}/stdin`, { offset: 0, data: base64(text) })),
    );
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 409, 409, 409]);
  });

  test("closed: the body is not looked at, twice is once, writing is refused", async () => {
    const { id, copy } = await runningExec();
    const close = () =>
      server.request("POST", `${at}/execs/${id}/stdin/close`, undefined, { raw: "not json" });
    const closed = await close();
    expect(closed).toMatchObject({
      status: 200,
      body: { exec: { id, stdin_closed_at: expect.any(String) } },
    });
    expect((await close()).body.exec.stdin_closed_at).toBe(closed.body.exec.stdin_closed_at);
    await copy.command("exec.stdin_close");
    expect((await copy.poll()).commands).toEqual([]);
    expect(await post(`/execs/${id}/stdin`, { offset: 0, data: base64("x") })).toMatchObject({
      status: 409,
      body: { code: "workspace_exec_stdin_closed" },
    });
  });

  test("of an exec that has ended: 409 workspace_exec_terminal, also for a signal", async () => {
    const { id, copy } = await runningExec();
    expect((await post(`/execs/${id}/kill`)).status).toBe(200);
    expect(await copy.command("exec.signal")).toMatchObject({ exec_id: id, signal: "SIGTERM" });
    expect((await post(`/execs/${id}/kill`, { signal: "SIGBUS" })).status).toBe(400);
    await copy.append({ kind: "exec.exited", exec_id: id, state: "terminated", signal: "SIGTERM" });
    expect((await get(`/execs/${id}`)).body.exec).toMatchObject({
      state: "terminated",
      signal: "SIGTERM",
      process_id: "7",
      started_at: expect.any(String),
      exited_at: expect.any(String),
    });
    const over = { status: 409, body: { code: "workspace_exec_terminal" } };
    expect(await post(`/execs/${id}/stdin`, { offset: 0, data: base64("x") })).toMatchObject(over);
    expect(await post(`/execs/${id}/kill`, { signal: "SIGKILL" })).toMatchObject(over);
    expect(await post(`/execs/${id}/stdin/close`)).toMatchObject(over);
  });

  test("that the worker does not take: 503 beyond what may wait, and nothing is lost", async () => {
    const { id } = await runningExec();
    const piece = base64(Buffer.alloc(1024 * 1024, 7));
    let offset = 0;
    let refused = 0;
    for (let n = 0; n < 18 && refused === 0; n += 1) {
      const { status } = await post(`/execs/${id}/stdin`, { offset, data: piece });
      if (status === 200) offset += 1024 * 1024;
      else refused = status;
    }
    expect(refused).toBe(503);
    expect((await get(`/execs/${id}`)).body.exec.stdin_cursor).toBe(offset);
  });
});

describe("output", () => {
  test("as a list: whole chunks that end after the cursor, in order, at most the limit", async () => {
    const { id, copy } = await runningExec();
    await copy.append(
      output(id, "stdout", 0, "abc"),
      output(id, "stderr", 0, "e"),
      output(id, "stdout", 3, "def"),
    );
    const chunks = async (query: string) =>
      (await get(`/execs/${id}/stdout${query}`)).body.chunks.map((chunk: { data: string }) =>
        Buffer.from(chunk.data, "base64").toString(),
      );
    expect(await chunks("")).toEqual(["abc", "def"]);
    expect(await chunks("?limit=1")).toEqual(["abc"]);
    expect(await chunks("?cursor=1")).toEqual(["abc", "def"]);
    expect(await chunks("?cursor=3")).toEqual(["def"]);
    expect(await chunks("?cursor=6")).toEqual([]);
    expect(await chunks("?cursor=600")).toEqual([]);
    expect((await get(`/execs/${id}/stdout?limit=501`)).status).toBe(400);
    expect((await get(`/execs/${id}/stdout?cursor=-1`)).status).toBe(400);
    expect((await get(`/execs/${id}/stderr`)).body).toEqual({
      chunks: [
        {
          id: expect.any(String),
          stream: "stderr",
          offset_start: 0,
          offset_end: 1,
          data: "ZQ==",
          observed_at: "2026-06-06T00:00:00.000Z",
          created_at: expect.any(String),
        },
      ],
    });
  });

  test("followed: every chunk with its end as id, then the terminal frame, then the end of the stream", async () => {
    const { id, copy } = await runningExec();
    await copy.append(output(id, "stdout", 0, "one"));
    const stream = await follow(`/execs/${id}/stdout?follow=1`);
    expect(stream.response.headers.get("content-type")).toBe("text/event-stream");
    const [first] = await take(stream, 1);
    expect(first).toMatchObject({
      id: "3",
      event: "workspace_stream_chunk",
      data: { offset_start: 0, offset_end: 3, data: base64("one"), stream: "stdout" },
    });
    await copy.append(output(id, "stdout", 3, "two"), {
      kind: "exec.exited",
      exec_id: id,
      state: "exited",
      exit_code: 3,
    });
    expect(await takeAll(stream)).toMatchObject([
      { id: "6", event: "workspace_stream_chunk", data: { data: base64("two") } },
      {
        id: "6",
        event: "workspace_stream_terminal",
        data: {
          resource_kind: "workspace_exec",
          resource_id: id,
          stream: "stdout",
          state: "exited",
          cursor: 6,
        },
      },
    ]);
    const later = await follow(`/execs/${id}/stdout`, { accept: "text/event-stream", "last-event-id": "3" });
    expect((await takeAll(later)).map(({ id: frame }) => frame)).toEqual(["6", "6"]);
    const both = await follow(`/execs/${id}/stdout?follow=1&cursor=0`, { "last-event-id": "6" });
    expect((await takeAll(both)).map(({ id: frame }) => frame)).toEqual(["3", "6", "6"]);
    expect((await get(`/execs/${id}`)).body.exec).toMatchObject({
      state: "exited",
      exit_code: 3,
      stdout_cursor: 6,
    });
  });

  test("of an exec whose worker is lost, or that failed: its own frame, with the reason", async () => {
    const { id } = await runningExec();
    const stream = await follow(`/execs/${id}/stderr?follow=1`);
    worker = await registerLiveWorker(server, worker.id);
    expect(await takeAll(stream)).toMatchObject([
      {
        id: "0",
        event: "workspace_stream_lost",
        data: {
          resource_kind: "workspace_exec",
          resource_id: id,
          stream: "stderr",
          state: "lost",
          cursor: 0,
          error: { message: expect.stringContaining("lost") },
        },
      },
    ]);
    const next = (await post("/execs", { command: ["missing"] })).body.exec.id;
    const copy = await worker.bringUp();
    const error = { message: "no such program: missing" };
    await copy.append({ kind: "exec.exited", exec_id: next, state: "failed", error });
    expect(await takeAll(await follow(`/execs/${next}/stdout?follow=1`))).toMatchObject([
      { event: "workspace_stream_terminal", data: { state: "failed", error } },
    ]);
  });

  test("older than what is kept: 410 in a list, a frame in a stream", async () => {
    const { id, copy } = await runningExec();
    await copy.append(output(id, "stdout", 0, "abcdef"));
    await sql`update workspace_execs set stdout_retained = 3 where id = ${id}`.execute(server.db);
    const code = "workspace_stream_cursor_expired";
    expect(await get(`/execs/${id}/stdout?cursor=2`)).toMatchObject({ status: 410, body: { code } });
    expect((await get(`/execs/${id}/stdout?cursor=3`)).status).toBe(200);
    expect(await takeAll(await follow(`/execs/${id}/stdout?follow=1`))).toMatchObject([
      { id: "0", event: "workspace_stream_error", data: { code, cursor: 0, message: expect.any(String) } },
    ]);
  });

  test("an append leaves no gap, is the same when repeated, and is refused with an old fencing number", async () => {
    const { id, copy } = await runningExec();
    await copy.append(output(id, "stdout", 0, "abc"));
    const item = { ...output(id, "stdout", 4, "x"), number: 99 };
    expect(await copy.post("append", { items: [item] })).toMatchObject({
      status: 409,
      body: { code: "workspace_stream_offset_conflict" },
    });
    const repeated = { ...output(id, "stdout", 0, "abc"), number: 2 };
    expect(await copy.post("append", { items: [repeated] })).toEqual(
      expect.objectContaining({ status: 200, body: { acknowledged: 2, paused: [] } }),
    );
    expect(await copy.post("append", { fencing: copy.fencing + 1, items: [] })).toMatchObject({
      status: 409,
      body: { code: "lease_lost" },
    });
    expect((await get(`/execs/${id}`)).body.exec.stdout_cursor).toBe(3);
  });

  test("large pieces are kept in frames that clients can hold", async () => {
    const { id, copy } = await runningExec();
    const data = Buffer.alloc(700_000, "x");
    await copy.append(output(id, "stdout", 0, data));
    const { chunks } = (await get(`/execs/${id}/stdout`)).body;
    expect(chunks.length).toBeGreaterThan(2);
    const all = Buffer.concat(chunks.map((chunk: { data: string }) => Buffer.from(chunk.data, "base64")));
    expect(all.equals(data)).toBe(true);
    const frames = await take(await follow(`/execs/${id}/stdout?follow=1`), chunks.length);
    expect(Math.max(...frames.map((frame) => JSON.stringify(frame).length))).toBeLessThan(512 * 1024);
  });
});

describe("terminals", () => {
  test("from creation to close, with input, output and sizes", async () => {
    const created = await post("/pty", {});
    expect(created).toMatchObject({
      status: 201,
      body: {
        pty: { state: "creating", cols: 80, rows: 24, cwd: "", filesystem_mode: "write", output_cursor: 0 },
      },
    });
    const { id } = created.body.pty;
    const type = (offset: number, text: string) => post(`/pty/${id}/input`, { offset, data: base64(text) });
    const notOpen = { status: 409, body: { code: "workspace_pty_not_open" } };
    expect(await type(0, "x")).toMatchObject(notOpen);
    expect(await post(`/pty/${id}/resize`, { cols: 10, rows: 10 })).toMatchObject(notOpen);
    expect(await post(`/pty/${id}/close`)).toMatchObject(notOpen);
    const copy = await worker.bringUp();
    expect(await copy.command("pty.start")).toMatchObject({ pty_id: id, cols: 80, rows: 24, cwd: "" });
    await copy.append({ kind: "pty.opened", pty_id: id, pid: 8 });
    const stream = await follow(`/pty/${id}/output?follow=1`);
    expect(await type(0, "ls\r")).toMatchObject({ status: 200, body: { stream: "input", offset_end: 3 } });
    expect((await copy.command("pty.input")).data.toString()).toBe("ls\r");
    await copy.append(output(id, "output", 0, "ls\r\n"));
    expect(await take(stream, 1)).toMatchObject([
      { id: "4", data: { stream: "output", data: base64("ls\r\n") } },
    ]);
    expect((await post(`/pty/${id}/resize`, { cols: 100, rows: 40 })).body.pty).toMatchObject({
      state: "resizing",
      cols: 100,
      rows: 40,
    });
    expect(await copy.command("pty.resize")).toMatchObject({ cols: 100, rows: 40 });
    await copy.append({ kind: "pty.resized", pty_id: id, cols: 100, rows: 40 });
    expect((await get(`/pty/${id}`)).body.pty).toMatchObject({
      state: "open",
      process_id: "8",
      input_cursor: 3,
    });
    expect((await post(`/pty/${id}/close`)).body.pty.state).toBe("closing");
    expect((await post(`/pty/${id}/close`)).body.pty.state).toBe("closing");
    await copy.command("pty.close");
    expect(await type(3, "x")).toMatchObject(notOpen);
    await copy.append({ kind: "pty.closed", pty_id: id, state: "closed" });
    expect(await takeAll(stream)).toMatchObject([
      {
        event: "workspace_stream_terminal",
        data: {
          resource_kind: "workspace_pty",
          resource_id: id,
          stream: "output",
          state: "closed",
          cursor: 4,
        },
      },
    ]);
    expect(await type(3, "x")).toMatchObject({ status: 409, body: { code: "workspace_pty_terminal" } });
    expect(await post(`/pty/${id}/close`)).toMatchObject(notOpen);
    expect((await get("/pty?state=closed&limit=1")).body.ptys).toMatchObject([
      { id, closed_at: expect.any(String) },
    ]);
    expect((await get(`/pty/${id}/output`)).body.chunks).toHaveLength(1);
  });

  test("sizes: nothing or less is 80 x 24, more than 500 is refused; a key gives the same terminal", async () => {
    expect((await post("/pty", { cols: 501 })).status).toBe(400);
    const body = { cols: 0, rows: -1, idempotency_key: "k" };
    const created = await post("/pty", body);
    expect(created.body.pty).toMatchObject({ cols: 80, rows: 24 });
    expect(await post("/pty", body)).toMatchObject({
      status: 200,
      body: { is_cached: true, pty: { id: created.body.pty.id } },
    });
    expect(await post("/pty", { ...body, cols: 81 })).toMatchObject({
      body: { code: "idempotency_fingerprint_mismatch" },
    });
    const { copy, id } = { copy: await worker.bringUp(), id: created.body.pty.id };
    await copy.append({ kind: "pty.opened", pty_id: id, pid: 8 });
    expect((await post(`/pty/${id}/resize`, { cols: 0, rows: 10 })).status).toBe(400);
    expect((await post(`/pty/${id}/resize`, { cols: 10, rows: 501 })).status).toBe(400);
  });

  test("a slow reader holds the worker back, and only one that is attached", async () => {
    const { id, copy } = await openPty();
    const piece = Buffer.alloc(600_000, "y");
    let offset = 0;
    let paused: unknown[] = [];
    while (offset < 17 * 1024 * 1024) {
      ({ paused } = await copy.append(output(id, "output", offset, piece)));
      expect(paused).toEqual([]);
      offset += piece.length;
    }
    await sql`update workspace_ptys set output_read_at = now(), output_read = 10 where id = ${id}`.execute(
      server.db,
    );
    expect((await copy.append()).paused).toEqual([{ resource_id: id, stream: "output" }]);
    const stream = await follow(`/pty/${id}/output?follow=1&cursor=${offset - piece.length}`);
    await take(stream, 1);
    await expect.poll(async () => (await copy.append()).paused, { timeout: 10_000 }).toEqual([]);
    await stream.close();
  });
});
