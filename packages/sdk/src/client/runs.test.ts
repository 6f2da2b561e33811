/** `client.runs` against a real HTTP server: pages, logs, live events, waiting, cut connections. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { type Answer, cut, json, ScriptedServer, stream, text } from "../../test-support/scripted-server.ts";
import { finishedRun, frame, wireEvent, wireRun } from "../../test-support/wire-objects.ts";
import {
  AuthError,
  HelmrApiError,
  HelmrClient,
  InvalidResponseError,
  type RunEvent,
  RunNotFoundError,
  SseProtocolError,
  TimeoutError,
} from "../index.ts";

const server = new ScriptedServer();
let client: HelmrClient;
beforeAll(async () => {
  await server.start();
});
afterAll(() => server.stop());
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  client = new HelmrClient({ url: server.url, apiKey: "k" });
});
afterEach(() => {
  vi.restoreAllMocks();
});

const running = json(wireRun);
const finished = json(finishedRun);
const follow = (cursor: number) => `GET /api/runs/run-1/events?follow=1&cursor=${cursor}`;
const get = "GET /api/runs/run-1";
const base64 = (data: string | Buffer) => Buffer.from(data).toString("base64");

async function collect(events: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const all: RunEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe("retrieve, list and cancel", () => {
  it("map a run", async () => {
    server.script(json({ ...finishedRun, sdk_version: "0.1.0", output: null }));
    expect(await client.runs.retrieve({ id: "run-1", taskId: "hello" })).toEqual({
      id: "run-1",
      taskId: "hello",
      version: "20260606.1",
      deploymentVersion: "20260606.1",
      apiVersion: "2026-06-06",
      sdkVersion: "0.1.0",
      cliVersion: null,
      attemptNumber: 1,
      status: "succeeded",
      metadata: {},
      exitCode: 0,
      createdAt: wireRun.created_at,
      updatedAt: wireRun.updated_at,
      output: null,
      isQueued: false,
      isRunning: false,
      isWaiting: false,
      isTerminal: true,
      isSuccess: true,
      isFailed: false,
      isCancelled: false,
    });
  });

  it.each([
    ["queued", "isQueued", false],
    ["running", "isRunning", false],
    ["waiting", "isWaiting", false],
    ["succeeded", "isSuccess", true],
    ["failed", "isFailed", true],
    ["cancelled", "isCancelled", true],
    ["expired", undefined, true],
  ])("flag the status %s", async (status, flag, isTerminal) => {
    server.script(json({ ...wireRun, status }));
    const run = await client.runs.retrieve("run-1");
    const flags = ["isQueued", "isRunning", "isWaiting", "isSuccess", "isFailed", "isCancelled"] as const;
    expect(flags.filter((name) => run[name])).toEqual(flag === undefined ? [] : [flag]);
    expect(run.isTerminal).toBe(isTerminal);
    expect("output" in run).toBe(false);
  });

  it.each(["created", "", undefined, null, 5])("refuse the status %s", async (status) => {
    server.script(
      json({ ...wireRun, status }),
      json({ runs: [{ ...wireRun, status }] }),
      json({ run: { ...wireRun, status } }),
    );
    await expect(client.runs.retrieve("run-1")).rejects.toThrow("unknown status");
    await expect(client.runs.list()).rejects.toThrow(InvalidResponseError);
    await expect(client.runs.cancel("run-1")).rejects.toThrow(InvalidResponseError);
  });

  it("list with filters and scope", async () => {
    server.script(json({ runs: [wireRun, finishedRun] }));
    const found = await client.runs.list({ status: "live", limit: 2, projectId: "p", environmentId: "e" });
    expect(server.lines).toEqual(["GET /api/projects/p/environments/e/runs?status=live&limit=2"]);
    expect(found.map(({ status }) => status)).toEqual(["running", "succeeded"]);
  });

  it("cancel with its options", async () => {
    server.script(
      json({ run: wireRun, operation: { status: "applied" } }),
      json({ run: wireRun, operation: {} }),
    );
    await client.runs.cancel("run-1", { reason: "r", force: true, idempotencyKey: "raw key" });
    await client.runs.cancel("run-1");
    expect(server.lines).toEqual(["POST /api/runs/run-1/cancel", "POST /api/runs/run-1/cancel"]);
    expect(server.requests.map(({ body }) => body)).toEqual([
      { reason: "r", force: true, idempotency_key: "raw key" },
      {},
    ]);
  });

  it("name a run that is not there", async () => {
    const missing = json({ error: "run not found" }, 404);
    server.script(missing, missing, missing, missing, missing);
    const calls = [
      () => client.runs.retrieve("run-1"),
      () => client.runs.cancel("run-1"),
      () => client.runs.logs.retrieve("run-1"),
      () => client.runs.events.list("run-1"),
      () => client.runs.wait("run-1"),
    ];
    for (const call of calls) {
      const failure = await call().catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(RunNotFoundError);
      expect(failure).toBeInstanceOf(HelmrApiError);
      expect(failure).toMatchObject({ name: "RunNotFoundError", runId: "run-1", status: 404 });
    }
  });

  it.each(["", "..", undefined, {}])("refuse the id %j", async (id) => {
    server.script();
    await expect(client.runs.retrieve(id as never)).rejects.toThrow("run id must be a non-empty id");
    expect(server.requests).toEqual([]);
  });
});

describe("logs", () => {
  it("are decoded to text", async () => {
    const body = {
      stdout_base64: base64("zwölf €\n"),
      stderr_base64: base64(Buffer.of(0x61, 0xff)),
      cursor: "12",
      truncated: true,
    };
    server.script(json({ ...body, stdout_bytes: 11, stderr_bytes: 2 }));
    expect(await client.runs.logs.retrieve("run-1")).toEqual({
      stdout: "zwölf €\n",
      stderr: "a�",
      cursor: "12",
      truncated: true,
    });
  });

  it.each([
    { stdout_base64: "", cursor: "0" },
    { stdout_base64: "", stderr_base64: null, cursor: "0" },
    { stdout_base64: "=a", stderr_base64: "", cursor: "0" },
    { stdout_base64: "", stderr_base64: "", cursor: 0 },
  ])("refuse %j", async (body) => {
    server.script(json(body));
    await expect(client.runs.logs.retrieve("run-1")).rejects.toThrow(InvalidResponseError);
  });
});

describe("events.list", () => {
  it("pages until the server names no next cursor", async () => {
    server.script(
      json({
        events: [wireEvent(5, "run.created"), wireEvent(6, "log.stdout", { bytes: 3, observed_seq: 1 })],
        cursor: 4,
        next_cursor: 6,
      }),
      json({ events: [wireEvent(7, "run.completed", { exit_code: 0 })], cursor: 6, next_cursor: null }),
    );
    expect(await client.runs.events.list("run-1", { cursor: 4, pageSize: 2 })).toEqual([
      {
        type: "log",
        stream: "stdout",
        bytes: 3,
        observed_seq: 1,
        run_id: "run-1",
        cursor: 6,
        at: "2026-06-06T10:00:02.000Z",
      },
      { type: "task_result", exit_code: 0, run_id: "run-1", cursor: 7, at: "2026-06-06T10:00:02.000Z" },
    ]);
    expect(server.lines).toEqual([
      "GET /api/runs/run-1/events?cursor=4&limit=2",
      "GET /api/runs/run-1/events?cursor=6&limit=2",
    ]);
  });

  it.each([0, "5", {}])("refuses the next cursor %j instead of paging for ever", async (next_cursor) => {
    server.script(json({ events: [], next_cursor }));
    await expect(client.runs.events.list("run-1")).rejects.toThrow("next_cursor");
  });

  const at = { run_id: "run-1", cursor: 1, at: "2026-06-06T10:00:02.000Z" };
  it.each<[string, Record<string, unknown>, object[]]>([
    [
      "log.stderr",
      { bytes: 1, observed_seq: 2 },
      [{ type: "log", stream: "stderr", bytes: 1, observed_seq: 2, ...at }],
    ],
    [
      "run_wait.created",
      { run_wait_id: "w", kind: "token", params: { a: 1 }, metadata: {}, tags: ["t"], timeout: 5 },
      [
        {
          type: "token_wait",
          run_wait_id: "w",
          params: { a: 1 },
          metadata: {},
          tags: ["t"],
          timeout: 5,
          ...at,
        },
      ],
    ],
    [
      "run_wait.completed",
      { run_wait_id: "w", kind: "stream", payload: null },
      [{ type: "stream_wait_completed", run_wait_id: "w", payload: null, ...at }],
    ],
    [
      "run_wait.timed_out",
      { run_wait_id: "w", kind: "timer" },
      [{ type: "timer_wait_timed_out", run_wait_id: "w", ...at }],
    ],
    ["run_wait.created", { redacted: true }, []],
    ["run.completed", {}, [{ type: "task_result", exit_code: null, ...at }]],
    [
      "run.failed",
      { detail: { exit_code: 3 } },
      [{ type: "run_failed", failure_kind: "task_failed", detail: { exit_code: 3 }, ...at }],
    ],
    [
      "run.failed",
      { failure_kind: "max_duration" },
      [{ type: "run_failed", failure_kind: "max_duration", ...at }],
    ],
    ["run.cancelled", { reason: "r" }, [{ type: "run_cancelled", reason: "r", ...at }]],
    ["run.expired", { ttl: "5s", message: "m" }, [{ type: "run_expired", ttl: "5s", message: "m", ...at }]],
    ["run.metadata.updated", {}, []],
  ])("maps %s %j", async (name, attributes, expected) => {
    server.script(json({ events: [wireEvent(1, name, attributes)] }));
    expect(await client.runs.events.list("run-1")).toEqual(expected);
  });

  it("is chosen by message, and takes the run's id from the attributes when the record has none", async () => {
    const { run_id, ...record } = wireEvent(1, "run.cancelled", { run_id: "from-attributes" });
    void run_id;
    server.script(
      json({
        events: [
          { ...record, kind: "something.else" },
          { ...record, message: "something.else" },
        ],
      }),
    );
    expect(await client.runs.events.list("run-1")).toMatchObject([
      { type: "run_cancelled", run_id: "from-attributes" },
    ]);
  });

  it.each([{ kind: "token" }, { run_wait_id: "w" }, { run_wait_id: "w", kind: "other" }])(
    "refuses the wait %j",
    async (attributes) => {
      server.script(json({ events: [wireEvent(1, "run_wait.created", attributes)] }));
      await expect(client.runs.events.list("run-1")).rejects.toThrow(InvalidResponseError);
    },
  );
});

describe("events.subscribe", () => {
  it("yields events as they come, each once, until the terminal one", async () => {
    const bytes = Buffer.from(
      `: keep-alive\n\n${frame(1, "log.stdout", { bytes: 1, observed_seq: 1, note: "zwölf" })}`,
    );
    server.script(
      stream(
        [
          bytes.subarray(0, 7),
          bytes.subarray(7, 200),
          bytes.subarray(200),
          frame(1, "log.stdout"),
          frame(2, "run.completed", { exit_code: 0 }),
        ],
        "open",
      ),
    );
    const events = await collect(client.runs.events.subscribe("run-1"));
    expect(events.map(({ type, cursor }) => [type, cursor])).toEqual([
      ["log", 1],
      ["task_result", 2],
    ]);
    expect(server.lines).toEqual([follow(0)]);
    expect(server.requests[0]?.headers).toMatchObject({
      accept: "text/event-stream",
      authorization: "Bearer k",
    });
    expect(server.requests[0]?.headers["last-event-id"]).toBeUndefined();
  });

  it("continues after a cut with the last cursor", async () => {
    server.script(
      stream([frame(5, "log.stdout"), "id: 6\ndata: {"], "cut"),
      running,
      stream([frame(6, "log.stdout"), frame(7, "run.failed")]),
    );
    const events = await collect(client.runs.events.subscribe("run-1", { cursor: 4 }));
    expect(events.map(({ cursor }) => cursor)).toEqual([5, 6, 7]);
    expect(server.lines).toEqual([follow(4), get, follow(5)]);
  });

  it("pages what is left when the stream ended and the run is over", async () => {
    server.script(
      stream([frame(1, "log.stdout")]),
      finished,
      json({ events: [wireEvent(2, "log.stdout"), wireEvent(3, "run.completed")] }),
    );
    const events = await collect(client.runs.events.subscribe("run-1"));
    expect(events.map(({ cursor }) => cursor)).toEqual([1, 2, 3]);
    expect(server.lines).toEqual([follow(0), get, "GET /api/runs/run-1/events?cursor=1"]);
  });

  it.each<[string, Answer]>([
    ["500", text("boom", 500)],
    ["503", text("", 503)],
    ["408", text("", 408)],
    ["429", text("slow down", 429)],
    ["no answer at all", cut],
  ])("survives %s", async (_, answer) => {
    server.script(answer, answer, stream([frame(1, "run.completed")]));
    expect(await collect(client.runs.events.subscribe("run-1"))).toMatchObject([{ type: "task_result" }]);
    expect(server.lines).toEqual([follow(0), get, follow(0)]);
  });

  it.each<[string, Answer, abstract new (...args: never[]) => Error]>([
    ["401", text("", 401), AuthError],
    ["400", text("", 400), HelmrApiError],
    ["403", text("", 403), HelmrApiError],
    ["a page instead of a stream", text("<html>", 200, { "content-type": "text/html" }), SseProtocolError],
    ["data that is no JSON", stream(["data: hello\n\n"]), SseProtocolError],
    ["data that is no object", stream(["data: [1]\n\n"]), SseProtocolError],
    ["an endless frame", stream(["data: ", "x".repeat(1024 * 1024), "x"], "open"), SseProtocolError],
  ])("ends with %s", async (_, answer, expected) => {
    server.script(answer);
    await expect(collect(client.runs.events.subscribe("run-1"))).rejects.toBeInstanceOf(expected);
    expect(server.requests).toHaveLength(1);
  });

  it.each([
    { id: 5 },
    { id: "x" },
    { id: "" },
    { id: "-1" },
    { id: "1.5" },
    { id: "9007199254740992" },
    { id: undefined },
    { kind: 5 },
    { kind: undefined },
    { message: null },
    { message: undefined },
    { at: 5 },
    { at: undefined },
  ])("refuses a record with %j", async (change) => {
    server.script(stream([`data: ${JSON.stringify({ ...wireEvent(1, "log.stdout"), ...change })}\n\n`]));
    await expect(collect(client.runs.events.subscribe("run-1"))).rejects.toBeInstanceOf(SseProtocolError);
  });

  it("closes the connection when the caller leaves", async () => {
    let isClosed: Promise<unknown> | undefined;
    server.script(async (response, request) => {
      isClosed = new Promise((resolve) => response.on("close", resolve));
      await stream([frame(1, "log.stdout")], "open")(response, request);
    });
    for await (const event of client.runs.events.subscribe("run-1")) {
      expect(event.cursor).toBe(1);
      break;
    }
    await isClosed;
    expect(server.requests).toHaveLength(1);
  });

  it("ends with the signal's reason", async () => {
    server.script(stream([frame(1, "log.stdout")], "open"));
    const controller = new AbortController();
    const reading = async () => {
      for await (const _ of client.runs.events.subscribe("run-1", { signal: controller.signal }))
        controller.abort(new Error("enough"));
    };
    await expect(reading()).rejects.toThrow("enough");
  });
});

describe("wait", () => {
  it("returns a run that is over already", async () => {
    server.script(finished);
    expect(await client.runs.wait("run-1")).toMatchObject({ isSuccess: true, output: { greeting: "hi" } });
    expect(server.lines).toEqual([get]);
  });

  it("follows events, then polls until the run says so too", async () => {
    server.script(
      running,
      stream([frame(1, "log.stdout"), frame(2, "run.completed")], "open"),
      running,
      running,
      finished,
    );
    expect(await client.runs.wait("run-1")).toMatchObject({ status: "succeeded" });
    expect(server.lines).toEqual([get, follow(0), get, get, get]);
  });

  it("looks at the run when a stream ends, and reconnects with its cursor", async () => {
    server.script(running, stream([frame(3, "log.stdout")]), running, stream([], "cut"), finished);
    expect(await client.runs.wait("run-1")).toMatchObject({ status: "succeeded" });
    expect(server.lines).toEqual([get, follow(0), get, follow(3), get]);
  });

  it("survives a server that is away", async () => {
    server.script(cut, cut, text("", 502), stream([frame(1, "run.completed")]), text("", 500), finished);
    expect(await client.runs.wait("run-1")).toMatchObject({ status: "succeeded" });
    expect(server.lines).toEqual([get, follow(0), get, follow(0), get, get]);
  });

  it("fails on what another attempt does not mend", async () => {
    server.script(running, text("", 401));
    await expect(client.runs.wait("run-1")).rejects.toBeInstanceOf(AuthError);
    server.script(running, stream(["data: {}\n\n"]));
    await expect(client.runs.wait("run-1")).rejects.toBeInstanceOf(SseProtocolError);
  });

  it("gives up after timeoutMs, wherever it is", async () => {
    server.script(running, stream([], "open"));
    await expect(client.runs.wait("run-1", { timeoutMs: 50 })).rejects.toBeInstanceOf(TimeoutError);
    server.script(() => {});
    await expect(client.runs.wait("run-1", { timeoutMs: 50 })).rejects.toThrow(
      "run run-1 is not over after 50 ms",
    );
    for (const timeoutMs of [0, -1, Number.NaN, 2 ** 31]) {
      await expect(client.runs.wait("run-1", { timeoutMs })).rejects.toBeInstanceOf(RangeError);
    }
  });

  it("ends with the signal's reason", async () => {
    const controller = new AbortController();
    server.script(running, (response, request) => {
      setTimeout(() => controller.abort(new Error("enough")), 20);
      return stream([], "open")(response, request);
    });
    await expect(client.runs.wait("run-1", { signal: controller.signal })).rejects.toThrow("enough");
  });
});
