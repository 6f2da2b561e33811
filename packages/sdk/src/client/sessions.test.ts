/** Requests of `client.sessions` and what becomes of the answers, against a real HTTP server. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import * as z from "zod";
import { json, ScriptedServer, text } from "../../test-support/scripted-server.ts";
import { finishedRun, wireRun, wireSession } from "../../test-support/wire-objects.ts";
import {
  AuthError,
  HelmrApiError,
  HelmrClient,
  InvalidResponseError,
  idempotencyKeys,
  image,
  PayloadSchemaValidationError,
  queue,
  sandbox,
  sessions,
  TransportError,
  task,
} from "../index.ts";
import { sdkVersion } from "../version.ts";

const server = new ScriptedServer();
let client: HelmrClient;
beforeAll(async () => {
  await server.start();
});
afterAll(() => server.stop());
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  client = new HelmrClient({ url: `${server.url}/prefix/`, apiKey: "hlmr_sk_key" });
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

const box = sandbox("box").image(image("i").from("node:24"));
const audit = task({
  id: "audit",
  sandbox: box,
  maxDuration: 60,
  payload: z.object({ n: z.string().transform(Number) }),
  run: (payload) => payload.n,
});
const plain = task({ id: "plain", sandbox: box, run: () => "done" });
const started = { session: wireSession, run: wireRun };
const lastBody = () => server.requests.at(-1)?.body;

describe("requests", () => {
  it("say what of a payload JSON cannot carry, and send nothing", async () => {
    let deep: unknown = [];
    for (let level = 0; level < 20_000; level += 1) deep = [deep];
    await expect(client.sessions.start("audit", deep)).rejects.toThrow(
      /written as JSON: it is nested too deep/,
    );
    await expect(client.sessions.start("audit", { n: 1n })).rejects.toThrow(/written as JSON: .*BigInt/);
    expect(server.requests).toEqual([]);
  });

  it("carry the headers of the contract, below the prefix", async () => {
    server.script(json({ sessions: [] }), json({ sessions: [] }), json(started, 201));
    await client.sessions.list();
    const [first] = server.requests;
    expect(first?.path).toBe("/prefix/api/sessions");
    expect(first?.headers).toMatchObject({
      authorization: "Bearer hlmr_sk_key",
      "helmr-api-version": "2026-06-06",
      "helmr-sdk-version": sdkVersion,
    });
    expect(first?.headers["content-type"]).toBeUndefined();
    vi.stubEnv("HELMR_API_KEY", "");
    await new HelmrClient({ url: server.url }).sessions.list();
    expect(server.requests[1]?.headers.authorization).toBeUndefined();
    await client.sessions.start("hello");
    expect(server.requests[2]?.headers["content-type"]).toBe("application/json");
  });

  it("use the prefixed routes when both ids are given, and refuse one alone", async () => {
    server.script(json({ sessions: [] }), json(started, 201));
    await client.sessions.list({ projectId: "my project", environmentId: "production" });
    await client.sessions.start(plain, { projectId: "p", environmentId: "e" });
    expect(server.lines).toEqual([
      "GET /prefix/api/projects/my%20project/environments/production/sessions",
      "POST /prefix/api/projects/p/environments/e/sessions",
    ]);
    expect(lastBody()).toEqual({ task_id: "plain", max_duration_seconds: 900 });
    await expect(client.sessions.list({ projectId: "p" })).rejects.toThrow("pass both, or none");
    await expect(client.sessions.list({ environmentId: "e" })).rejects.toThrow("pass both, or none");
  });

  it("come from the environment at the top level, and follow its changes", async () => {
    server.script(json({ sessions: [] }), json({ sessions: [] }));
    vi.stubEnv("HELMR_API_URL", server.url);
    vi.stubEnv("HELMR_API_KEY", "one");
    await sessions.list();
    vi.stubEnv("HELMR_API_KEY", "two");
    await sessions.list();
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual(["Bearer one", "Bearer two"]);
    vi.stubEnv("HELMR_API_URL", "");
    await expect(sessions.list()).rejects.toThrow("set HELMR_API_URL");
  });
});

describe("start", () => {
  it("sends every option under its wire name", async () => {
    server.script(json(started, 201));
    const expiresAt = new Date("2027-01-01T00:00:00Z");
    const key = await idempotencyKeys.create(["a", "b"]);
    await client.sessions.start(
      "hello",
      { any: ["thing", null] },
      {
        externalId: "order-1",
        workspaceId: "w",
        expiresAt,
        queue: queue({ id: "reports-queue" }),
        concurrencyKey: "customer",
        priority: -1,
        ttl: "10m",
        maxDurationSeconds: 30,
        retry: { maxAttempts: 2, backoff: { minMs: 5, maxMs: undefined } },
        metadata: { a: 1 },
        tags: ["x"],
        idempotencyKey: ["a", "b"],
        idempotencyKeyTTL: "2d",
      },
    );
    expect(lastBody()).toEqual({
      task_id: "hello",
      payload: { any: ["thing", null] },
      external_id: "order-1",
      workspace_id: "w",
      expires_at: "2027-01-01T00:00:00.000Z",
      queue: { name: "reports-queue" },
      concurrency_key: "customer",
      priority: -1,
      ttl: "10m",
      max_duration_seconds: 30,
      retry: { maxAttempts: 2, backoff: { minMs: 5 } },
      metadata: { a: 1 },
      tags: ["x"],
      idempotency_key: key.value,
      idempotency_key_ttl: "2d",
    });
  });

  it("sends max_duration_seconds for task objects only", async () => {
    server.script(json(started, 201), json(started, 201), json(started, 201));
    await client.sessions.start(audit, { n: "5" });
    expect(lastBody()).toEqual({ task_id: "audit", payload: { n: "5" }, max_duration_seconds: 60 });
    await client.sessions.start(plain);
    expect(lastBody()).toEqual({ task_id: "plain", max_duration_seconds: 900 });
    await client.sessions.start("audit", { n: "5" });
    expect(lastBody()).toEqual({ task_id: "audit", payload: { n: "5" } });
  });

  it("checks the payload of a task object before anything is sent", async () => {
    server.script();
    await expect(client.sessions.start(audit, { n: 5 } as never)).rejects.toThrow(
      PayloadSchemaValidationError,
    );
    await expect(client.sessions.start(audit, undefined as never)).rejects.toThrow("a payload is required");
    await expect(client.sessions.startAndWait(audit, {} as never)).rejects.toThrow(
      PayloadSchemaValidationError,
    );
    await expect(
      client.sessions.start(...([plain, { a: 1 }, {}] as unknown as [typeof plain])),
    ).rejects.toThrow("has no payload");
    await expect(client.sessions.start({} as never)).rejects.toThrow("pass a task made by task");
    await expect(client.sessions.start("t", 1, { ttl: "soon" })).rejects.toThrow("ttl: must be a duration");
    await expect(client.sessions.start("t", 1, { idempotencyKeyTTL: "1h" })).rejects.toThrow(
      "needs an idempotencyKey",
    );
    await expect(client.sessions.start("t", 1, { retry: { maxAttempts: 11 } })).rejects.toThrow(
      "retry.maxAttempts",
    );
    expect(server.requests).toEqual([]);
  });

  it("returns session and run handle, and does not look at the run's status", async () => {
    server.script(json({ ...started, run: { id: "r", task_id: "t", status: "new" }, is_cached: true }));
    const result = await client.sessions.start("hello");
    expect(result.run).toEqual({ id: "r", taskId: "t" });
    expect(result.isCached).toBe(true);
    expect(result.session.id).toBe(wireSession.id);
    expect(Object.isFrozen(result)).toBe(true);
  });

  it("repeats a start whose key is in flight, after Retry-After", async () => {
    const pending = { error: "session_start_pending", code: "idempotency_pending" };
    server.script(json(pending, 202), json(pending, 202, { "retry-after": "0" }), json(started, 200));
    const result = await client.sessions.start("hello", undefined, { idempotencyKey: "k" });
    expect(result.isCached).toBe(false);
    expect(server.requests).toHaveLength(3);
    expect(new Set(server.requests.map(({ body }) => JSON.stringify(body))).size).toBe(1);
  });

  it.each([
    [
      "a delay beyond the budget",
      json({ error: "x", code: "idempotency_pending" }, 202, { "retry-after": "11" }),
    ],
    [
      "a date beyond the budget",
      json({ error: "x", code: "idempotency_pending" }, 202, {
        "retry-after": new Date(Date.now() + 3_600_000).toUTCString(),
      }),
    ],
    ["another code", json({ error: "x", code: "other" }, 202)],
    ["no JSON", text("accepted", 202)],
    ["an empty body", text("", 202)],
  ])("takes 202 with %s as an error", async (_, answer) => {
    server.script(answer);
    await expect(client.sessions.start("hello")).rejects.toMatchObject({
      name: "HelmrApiError",
      status: 202,
    });
    expect(server.requests).toHaveLength(1);
  });

  it("stops waiting for a pending start when it is aborted", async () => {
    const controller = new AbortController();
    server.script((response, request) => {
      json({ error: "x", code: "idempotency_pending" }, 202, { "retry-after": "9" })(response, request);
      setTimeout(() => controller.abort(new Error("enough")), 20);
    });
    await expect(client.sessions.start("hello", 1, { signal: controller.signal })).rejects.toThrow("enough");
  });
});

describe("startAndWait", () => {
  it("returns the whole run", async () => {
    server.script(json({ session: wireSession, run: finishedRun }));
    const result = await client.sessions.startAndWait(plain, { timeoutSeconds: 20 });
    expect(server.lines).toEqual(["POST /prefix/api/sessions/start-and-wait"]);
    expect(lastBody()).toEqual({ task_id: "plain", max_duration_seconds: 900, timeout_seconds: 20 });
    expect(result).toMatchObject({
      isCached: false,
      timedOut: false,
      run: { status: "succeeded", output: { greeting: "hi" } },
    });
  });

  it("says when the run is not over", async () => {
    server.script(json({ ...started, timed_out: true }));
    expect(await client.sessions.startAndWait("hello")).toMatchObject({
      timedOut: true,
      run: { isRunning: true },
    });
  });

  it("refuses an unknown run status", async () => {
    server.script(json({ session: wireSession, run: { ...wireRun, status: "leased" } }));
    await expect(client.sessions.startAndWait("hello")).rejects.toThrow(InvalidResponseError);
  });
});

describe("other calls", () => {
  it("list with filters", async () => {
    server.script(json({ sessions: [wireSession] }));
    const found = await client.sessions.list({ status: "all", taskId: "t", externalId: "a b", limit: 5 });
    expect(server.lines).toEqual(["GET /prefix/api/sessions?status=all&task_id=t&external_id=a+b&limit=5"]);
    expect(found.map(({ id }) => id)).toEqual([wireSession.id]);
  });

  it("address sessions by id, by handle and by external id", async () => {
    server.script(...Array.from({ length: 5 }, () => json(wireSession)), json({ runs: [] }));
    await client.sessions.retrieve("id/1");
    const byId = client.sessions.open({ id: "s" });
    expect(byId.id).toBe("s");
    await byId.close();
    await client.sessions.open(byId).cancel({ reason: "no longer needed" });
    const byExternalId = client.sessions.open({ externalId: "a&b" });
    expect(byExternalId.externalId).toBe("a&b");
    await byExternalId.retrieve();
    await byExternalId.cancel({ reason: "r" });
    await byExternalId.runs();
    expect(server.lines).toEqual([
      "GET /prefix/api/sessions/id%2F1",
      "POST /prefix/api/sessions/s/close",
      "POST /prefix/api/sessions/s/cancel",
      "GET /prefix/api/sessions/by-external-id?external_id=a%26b",
      "POST /prefix/api/sessions/by-external-id/cancel?external_id=a%26b",
      "GET /prefix/api/sessions/by-external-id/runs?external_id=a%26b",
    ]);
    expect(server.requests.map(({ body }) => body)).toEqual([
      undefined,
      {},
      { reason: "no longer needed" },
      undefined,
      { reason: "r" },
      undefined,
    ]);
  });

  it.each(["", ".", "..", {}, { externalId: "" }, 5])("refuse the address %j", async (address) => {
    server.script();
    await expect(client.sessions.retrieve(address as never)).rejects.toThrow(TypeError);
    expect(server.requests).toEqual([]);
  });

  it("map the runs of a session", async () => {
    const first = {
      id: "sr",
      run_id: "r",
      deployment_id: "d",
      turn_index: 0,
      status: "succeeded",
      execution_status: "finished",
    };
    server.script(
      json({
        runs: [
          { ...first, created_at: "t" },
          {
            ...first,
            created_at: "t",
            turn_index: 1,
            previous_run_id: "p",
            terminal_outcome: "succeeded",
            ended_at: "u",
          },
        ],
      }),
    );
    expect(await client.sessions.open("s").runs()).toEqual([
      {
        id: "sr",
        runId: "r",
        deploymentId: "d",
        previousRunId: null,
        turnIndex: 0,
        status: "succeeded",
        executionStatus: "finished",
        terminalOutcome: null,
        createdAt: "t",
        endedAt: null,
      },
      {
        id: "sr",
        runId: "r",
        deploymentId: "d",
        previousRunId: "p",
        turnIndex: 1,
        status: "succeeded",
        executionStatus: "finished",
        terminalOutcome: "succeeded",
        createdAt: "t",
        endedAt: "u",
      },
    ]);
  });
});

describe("session snapshots", () => {
  it("fill in what the server left out, and keep absent keys absent", async () => {
    const { current_run_id, workspace_id, ...bare } = wireSession;
    void [current_run_id, workspace_id];
    server.script(json(bare));
    expect(await client.sessions.retrieve("s")).toEqual({
      id: wireSession.id,
      projectId: "project",
      environmentId: "environment",
      taskId: "hello",
      initialDeploymentId: "deployment-1",
      activeDeploymentId: "deployment-2",
      status: "open",
      activity: "running",
      canClose: false,
      currentRunId: null,
      workspaceId: null,
      metadata: {},
      tags: [],
      timedOut: false,
      expiresAt: null,
      expiredAt: null,
      createdAt: wireSession.created_at,
      updatedAt: wireSession.updated_at,
    });
  });

  it("keep keys that are there, null included", async () => {
    server.script(
      json({
        ...wireSession,
        external_id: "e",
        result: null,
        error: { name: "X" },
        terminal_reason: null,
        timed_out: true,
        tags: ["a"],
      }),
    );
    const session = await client.sessions.retrieve("s");
    expect(session).toMatchObject({
      externalId: "e",
      result: null,
      error: { name: "X" },
      terminalReason: null,
      timedOut: true,
      tags: ["a"],
    });
  });
});

describe("errors", () => {
  it("401 is an AuthError whatever the body", async () => {
    server.script(json({ error: "no" }, 401));
    await expect(client.sessions.list()).rejects.toBeInstanceOf(AuthError);
  });

  it.each([400, 403, 404, 409, 429, 500, 503])(
    "%i is a HelmrApiError with status and raw body",
    async (status) => {
      const body = '{"error":"closed already",  "code":"session_terminal"}';
      server.script(text(body, status));
      const failure = await client.sessions.list().catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(HelmrApiError);
      expect(failure).toMatchObject({ status, body, message: `GET /sessions: ${status} closed already` });
      expect(server.requests).toHaveLength(1);
    },
  );

  it("keep a proxy's page readable", async () => {
    server.script(text(`<html>${"x".repeat(5000)}`, 502));
    const failure = (await client.sessions.list().catch((error: unknown) => error)) as HelmrApiError;
    expect(failure.body).toHaveLength(5006);
    expect(failure.message.length).toBeLessThan(400);
  });

  it("name an answer that is no JSON, or not the promised shape", async () => {
    server.script(text("<html>"), json({ items: [] }), json([]));
    await expect(client.sessions.list()).rejects.toThrow("is not JSON; does the URL lead to a Helmr server?");
    await expect(client.sessions.list()).rejects.toThrow('no array "sessions"');
    await expect(client.sessions.retrieve("s")).rejects.toThrow(InvalidResponseError);
  });

  it("name a server that is not there", async () => {
    const gone = await new ScriptedServer().start();
    const { url } = gone;
    await gone.stop();
    const failure = await new HelmrClient({ url }).sessions.list().catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(TransportError);
    expect(String(failure)).toMatch(/GET \/sessions: http:\/\/127.+ did not answer \(connect ECONNREFUSED/);
  });

  it("an abort rejects with its reason", async () => {
    server.script(() => {});
    const controller = new AbortController();
    const listing = client.sessions.list({ signal: controller.signal });
    controller.abort(new Error("enough"));
    await expect(listing).rejects.toThrow("enough");
    await expect(client.sessions.list({ signal: controller.signal })).rejects.toThrow("enough");
  });
});
