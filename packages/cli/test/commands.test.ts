/** The command against a scripted server: what it sends, what it prints, how it ends. */

import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { describe, expect, it } from "vitest";
import { helmr, helmrWhile } from "./support/helmr.ts";
import { frameText, scriptedServer, stream } from "./support/scripted-server.ts";
import { event, ids, logFrame, run, session } from "./support/wire.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

describe("session start", () => {
  it("sends what it was given, under the names of the API", async () => {
    await using server = await scriptedServer({
      "POST /sessions": {
        status: 201,
        json: { session: session(), run: run({ status: "queued", exit_code: null }) },
      },
    });
    const given = [
      "session",
      "start",
      "hello",
      "--payload",
      '{"n":[1]}',
      "--queue",
      "q",
      "--priority",
      "-3",
      "--ttl",
      "10m",
    ];
    const more = [
      "--tag",
      "a",
      "--tag",
      "b",
      "--metadata",
      '{"m":1}',
      "--external-id",
      "x 1",
      "--idempotency-key",
      "k",
    ];
    const rest = [
      "--max-duration",
      "2m",
      "--concurrency-key",
      "c",
      "--retry",
      '{"maxAttempts":3}',
      "--workspace-id",
      ids.task,
      "--json",
    ];
    const result = await helmr([...given, ...more, ...rest], { url: server.url });
    expect(result.err).toBe("");
    expect(result.exitCode).toBe(0);
    expect(JSON.parse(result.out)).toEqual({
      session: session(),
      run: run({ status: "queued", exit_code: null }),
    });
    const [asked] = server.asked;
    expect(JSON.parse(String(asked?.body))).toEqual({
      task_id: "hello",
      payload: { n: [1] },
      queue: { name: "q" },
      priority: -3,
      ttl: "10m",
      tags: ["a", "b"],
      metadata: { m: 1 },
      external_id: "x 1",
      idempotency_key: "k",
      max_duration_seconds: 120,
      concurrency_key: "c",
      retry: { maxAttempts: 3 },
      workspace_id: ids.task,
    });
    expect(asked?.headers).toMatchObject({
      authorization: "Bearer hlmr_sk_test",
      "helmr-api-version": "2026-06-06",
      "helmr-cli-version": "0.1.0",
      "helmr-client-version": "0.1.0",
      "content-type": "application/json",
    });
  });

  it("reads the payload from stdin and asks again while the same start is pending", async () => {
    let turn = 0;
    await using server = await scriptedServer({
      "POST /sessions": (_asked, response) => {
        turn += 1;
        const pending = turn === 1;
        response.writeHead(pending ? 202 : 200, { "content-type": "application/json", "retry-after": "0" });
        const started = { session: session(), run: run(), is_cached: true };
        response.end(
          JSON.stringify(pending ? { error: "session_start_pending", code: "idempotency_pending" } : started),
        );
      },
    });
    const result = await helmr(["session", "start", "hello", "--payload", "-", "--idempotency-key", "k"], {
      url: server.url,
      input: '{"a":"ä"}',
    });
    expect(result.exitCode, result.err).toBe(0);
    expect(server.asked.map((asked) => JSON.parse(String(asked.body)).payload)).toEqual([
      { a: "ä" },
      { a: "ä" },
    ]);
    expect(result.out).toContain(`run\t${ids.run}\n`);
  });

  it.each([
    ["succeeded", "run.completed", {}, 0],
    [
      "failed",
      "run.failed",
      { failure_kind: "task_failed", detail: { name: "TypeError", message: "it broke" } },
      1,
    ],
    ["cancelled", "run.cancelled", { reason: "obsolete" }, 5],
    ["expired", "run.expired", { ttl: "1s", message: "not started in time" }, 6],
  ])(
    "--follow shows the logs byte for byte and ends as the run: %s",
    async (status, kind, attributes, exitCode) => {
      const [first, second, third] = [bytes(0xff, 0, 10, 27), bytes(0xc3), bytes(0xa4, 10)];
      await using server = await scriptedServer({
        "POST /sessions": {
          status: 201,
          json: { session: session(), run: run({ status: "queued", exit_code: null }) },
        },
        [`GET /runs/${ids.run}`]: { json: run({ status, output: { greeting: "hi" } }) },
        [`GET /runs/${ids.run}/logs`]: stream("run_log", [
          { id: 1, data: logFrame(1, "stdout", first) },
          { id: 2, data: logFrame(2, "stderr", third) },
          { id: 3, data: logFrame(3, "stdout", second) },
          { id: 4, data: logFrame(4, "stdout", third) },
        ]),
        [`GET /runs/${ids.run}/events`]: stream("run_event", [
          { id: 1, data: event(1, kind, { attributes }) },
        ]),
      });
      const result = await helmr(["session", "start", "hello", "--follow"], { url: server.url });
      expect(result.exitCode, result.err).toBe(exitCode);
      expect(result.stdout.equals(Buffer.concat([first, second, third]))).toBe(true);
      expect(result.err).toContain(`run ${ids.run} ${status}`);
      for (const value of Object.values(attributes))
        if (typeof value === "string" && value !== "1s") expect(result.err).toContain(value);
      if (status === "failed") expect(result.err).toContain("TypeError: it broke");
      const followed = server.asked.filter((asked) => asked.path.endsWith("/logs"));
      expect(followed.map((asked) => asked.query.toString())).toEqual(followed.map(() => "follow=1"));
    },
  );

  it("--wait --json prints the start with the run as it ended", async () => {
    await using server = await scriptedServer({
      "POST /sessions": {
        status: 201,
        json: { session: session(), run: run({ status: "queued", exit_code: null }) },
      },
      [`GET /runs/${ids.run}`]: { json: run({ output: 7, a_newer_field: true }) },
      [`GET /runs/${ids.run}/events`]: stream("run_event", [{ id: 1, data: event(1, "run.completed") }]),
    });
    const result = await helmr(["session", "start", "hello", "--wait", "--json"], { url: server.url });
    expect(result.exitCode, result.err).toBe(0);
    expect(JSON.parse(result.out)).toEqual({
      session: session(),
      run: run({ output: 7, a_newer_field: true }),
    });
  });
});

describe("run", () => {
  it("wait gives up after --timeout with 124", async () => {
    await using server = await scriptedServer({
      [`GET /runs/${ids.run}`]: { json: run({ status: "running", exit_code: null }) },
      [`GET /runs/${ids.run}/events`]: (_asked, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        response.write(": keep-alive\n\n");
      },
    });
    const result = await helmr(["run", "wait", ids.run, "--timeout", "300ms"], { url: server.url });
    expect(result.exitCode).toBe(124);
    expect(result.err).toMatch(/not over after 0\.3 s[\s\S]*hint: .*helmr run cancel/);
  });

  it("logs prints both streams, says when that is not all, and --json prints the answer", async () => {
    const logs = {
      stdout_base64: Buffer.from(bytes(1, 2, 255)).toString("base64"),
      stderr_base64: "",
      cursor: "9",
      stdout_bytes: 3,
      stderr_bytes: 0,
      truncated: true,
    };
    await using server = await scriptedServer({ [`GET /runs/${ids.run}/logs`]: { json: logs } });
    const text = await helmr(["run", "logs", ids.run], { url: server.url });
    expect([...text.stdout]).toEqual([1, 2, 255]);
    expect(text.err).toContain("--follow");
    expect(JSON.parse((await helmr(["run", "logs", ids.run, "--json"], { url: server.url })).out)).toEqual(
      logs,
    );
  });

  it("events reads every page", async () => {
    await using server = await scriptedServer({
      [`GET /runs/${ids.run}/events`]: (asked, response) => {
        const first = asked.query.get("cursor") === null;
        const page = first
          ? { events: [event(1, "run.created")], cursor: 0, next_cursor: 1 }
          : { events: [event(2, "run.completed")], cursor: 1 };
        response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(page));
      },
    });
    const json = await helmr(["run", "events", ids.run, "--json"], { url: server.url });
    expect(JSON.parse(json.out).events.map((item: { kind: string }) => item.kind)).toEqual([
      "run.created",
      "run.completed",
    ]);
    const text = await helmr(["run", "events", ids.run], { url: server.url });
    expect(text.out).toMatch(/run\.created[\s\S]*run\.completed/);
  });

  it("list is tab-separated in a pipe, its query under the API's names", async () => {
    await using server = await scriptedServer({
      "GET /runs": { json: { runs: [run(), run({ status: "failed" })] } },
    });
    const result = await helmr(["run", "list", "--status", "all", "--limit", "5", "--session", ids.session], {
      url: server.url,
    });
    expect(result.out.split("\n").map((line) => line.split("\t").length)).toEqual([6, 6, 1]);
    expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({
      status: "all",
      limit: "5",
      session_id: ids.session,
    });
  });
});

describe("sessions by external id", () => {
  it.each([
    ["get", "GET /sessions/by-external-id"],
    ["cancel", "POST /sessions/by-external-id/cancel"],
  ])("%s", async (action, route) => {
    await using server = await scriptedServer({ [route]: { json: session({ external_id: "order 7/ä" }) } });
    const result = await helmr(["session", action, "--external-id", "order 7/ä", "--json"], {
      url: server.url,
    });
    expect(result.exitCode, result.err).toBe(0);
    expect(server.asked[0]?.query.get("external_id")).toBe("order 7/ä");
  });

  it("needs one name, not two or none", async () => {
    const none = await helmr(["session", "get"], { url: "http://127.0.0.1:9" });
    expect(none.exitCode).toBe(2);
    expect(
      (await helmr(["session", "get", ids.session, "--external-id", "x"], { url: "http://127.0.0.1:9" }))
        .exitCode,
    ).toBe(2);
  });
});

describe("secret set", () => {
  const secret = {
    project_id: ids.project,
    environment_id: ids.environment,
    name: "KEY",
    created_at: "",
    updated_at: "",
  };
  it("takes a piped value without its final line break, and never prints it", async () => {
    await using server = await scriptedServer({ "PUT /secrets/KEY": { json: secret } });
    const result = await helmr(["secret", "set", "KEY"], { url: server.url, input: "s3cret\nline\n" });
    expect(result.exitCode, result.err).toBe(0);
    expect(JSON.parse(String(server.asked[0]?.body))).toEqual({ value: "s3cret\nline" });
    expect(result.out + result.err).not.toContain("s3cret");
  });
  it("refuses a value on the command line", async () => {
    expect((await helmr(["secret", "set", "KEY", "s3cret"], { url: "http://127.0.0.1:9" })).exitCode).toBe(2);
  });
});

describe("an end from outside", () => {
  /** A stream that goes on for ever. */
  const endless = {
    "POST /sessions": {
      status: 201,
      json: { session: session(), run: run({ status: "queued", exit_code: null }) },
    },
    [`GET /runs/${ids.run}`]: { json: run({ status: "running", exit_code: null }) },
    [`GET /runs/${ids.run}/logs`]: (_asked: unknown, response: ServerResponse) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write(frameText("run_log", { id: 1, data: logFrame(1, "stdout", Buffer.from("first\n")) }));
    },
  };

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("%s ends a follow with %i and says that the run goes on", async (signal, exitCode) => {
    await using server = await scriptedServer(endless);
    const result = await helmrWhile(
      ["session", "start", "hello", "--follow"],
      { url: server.url },
      async (child) => {
        await once(child.stdout, "data");
        child.kill(signal);
      },
    );
    expect(result.exitCode).toBe(exitCode);
    expect(result.out).toBe("first\n");
    expect(result.err).toMatch(/interrupted\nhint: the run goes on; .*helmr run logs/);
  });

  it("a reader that goes away ends it quietly", async () => {
    await using server = await scriptedServer({
      [`GET /runs/${ids.run}`]: { json: run({ status: "running", exit_code: null }) },
      [`GET /runs/${ids.run}/logs`]: (_asked, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const line = Buffer.alloc(64 * 1024, "x");
        for (let id = 1; id < 200; id += 1)
          response.write(frameText("run_log", { id, data: logFrame(id, "stdout", line) }));
      },
    });
    const result = await helmrWhile(
      ["run", "logs", ids.run, "--follow"],
      { url: server.url },
      async (child) => {
        await once(child.stdout, "data");
        child.stdout.destroy();
      },
    );
    expect(result.exitCode).toBe(141);
    expect(result.err).toBe("");
  });
});

describe("errors", () => {
  it.skipIf(process.platform !== "linux")(
    "a home that is not there and cannot be made hangs nothing",
    async () => {
      const result = await helmr(["run", "list"], {
        env: { HOME: "/proc/not-there", XDG_CONFIG_HOME: "", XDG_CACHE_HOME: "" },
      });
      expect(result.exitCode).toBe(2);
      expect(result.err).toContain("no server is known");
    },
  );

  it.each([
    [400, 8],
    [401, 4],
    [403, 4],
    [404, 3],
    [409, 8],
    [413, 8],
    [500, 7],
  ])("status %i ends with %i, the server's message and a hint", async (status, exitCode) => {
    await using server = await scriptedServer({ "GET /tasks": { status, json: { error: "the reason" } } });
    const result = await helmr(["task", "list"], { url: server.url });
    expect(result.exitCode).toBe(exitCode);
    expect(result.out).toBe("");
    expect(result.err).toMatch(/^error: the reason\n/);
  });

  it("asks again when the server is away for a moment", async () => {
    let turn = 0;
    await using server = await scriptedServer({
      "GET /tasks": (_asked, response) => {
        turn += 1;
        response
          .writeHead(turn < 3 ? 503 : 200, { "content-type": "application/json" })
          .end('{"error":"busy","tasks":[]}');
      },
    });
    expect((await helmr(["task", "list"], { url: server.url })).exitCode).toBe(0);
    expect(turn).toBe(3);
  });

  it.each([
    ["applied", "cancelled", "is cancelled"],
    ["pending", "running", "is being cancelled"],
    ["rejected", "succeeded", "was over already: succeeded"],
  ])(
    "run cancel whose operation is %s, of a run then %s, says that it %s",
    async (status, runStatus, said) => {
      const operation = {
        id: ids.task,
        run_id: ids.run,
        kind: "cancel",
        status,
        created_at: run().created_at,
      };
      await using server = await scriptedServer({
        [`POST /runs/${ids.run}/cancel`]: { json: { run: run({ status: runStatus }), operation } },
      });
      const result = await helmr(["run", "cancel", ids.run], { url: server.url });
      expect(result.exitCode, result.err).toBe(0);
      expect(result.err).toBe(`run ${ids.run} ${said}\n`);
    },
  );

  it("an answer of another shape is said, with where it differs", async () => {
    await using server = await scriptedServer({
      [`GET /runs/${ids.run}`]: { json: run({ status: "sleeping" }) },
    });
    const result = await helmr(["run", "get", ids.run], { url: server.url });
    expect(result.exitCode).toBe(7);
    expect(result.err).toMatch(/unexpected answer to GET \/api\/runs\/.*: status:/);
  });

  it("control characters of others do not reach a table", async () => {
    await using server = await scriptedServer({
      [`GET /sessions/${ids.session}`]: { json: session({ external_id: "a\u001b[2Jb\tc\nd" }) },
    });
    const result = await helmr(["session", "get", ids.session], { url: server.url });
    expect(result.out).toContain("external id\tab c d\n");
  });

  it.each([
    [["nope"], 2],
    [["run", "list", "--limit", "0"], 2],
    [["run", "list", "--nope"], 2],
    [["session", "start", "x", "--payload", "{"], 2],
    [["--help"], 0],
    [["--version"], 0],
  ])("%j ends with %i", async (args, exitCode) => {
    expect((await helmr(args, { url: "http://127.0.0.1:9" })).exitCode).toBe(exitCode);
  });
});
