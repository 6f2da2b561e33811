/** Contract 1: transport, headers, errors, actors, CORS, value rules. */
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Answer,
  startTestServer,
  type TestServer,
} from "../../packages/control-plane/test/support/server.ts";
import { sendRaw } from "./support/raw.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

const start = (body: object = {}) => server.request("POST", "/sessions", { task_id: "hello", ...body });
const headerLines = () => `Host: helmr\r\nConnection: close\r\nAuthorization: Bearer ${server.key}\r\n`;
const get = (target: string, more = "") =>
  sendRaw(server.url, `GET ${target} HTTP/1.1\r\n${headerLines()}${more}\r\n`);
const post = (target: string, body: string | Buffer, more = "") =>
  sendRaw(
    server.url,
    Buffer.concat([
      Buffer.from(
        `POST ${target} HTTP/1.1\r\n${headerLines()}${more}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n`,
      ),
      Buffer.from(body),
    ]),
  );
const hello = '{"task_id":"hello"}';

/** Contract 1.3: the type, one object with `error`, and `code` only where the registry has one. */
function expectEnvelope(answer: {
  status: number;
  headers: ReadonlyMap<string, string>;
  body: string;
}): void {
  expect(answer.headers.get("content-type")).toBe("application/json");
  expect(answer.headers.get("helmr-api-version")).toBe("2026-06-06");
  const body = JSON.parse(answer.body) as Record<string, unknown>;
  expect(Object.keys(body)).toEqual(["error"]);
  expect(body.error).toMatch(/./);
}

describe("§1.1 base URL and routes", () => {
  test("§1.1 GET /healthz and /readyz are outside of /api and need no credential", async () => {
    for (const [path, body] of [
      ["/healthz", '{"status":"ok"}'],
      ["/readyz", '{"status":"ready"}'],
    ] as const) {
      const answer = await sendRaw(
        server.url,
        `GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
      );
      expect([answer.status, answer.body]).toEqual([200, body]);
    }
  });

  test("§1.1 /readyz is 503 when the database does not answer", async () => {
    const other = await startTestServer();
    await other.db.close();
    const answer = await fetch(`${other.url}/readyz`);
    expect([answer.status, await answer.text()]).toEqual([503, '{"status":"not_ready"}']);
    expect((await fetch(`${other.url}/healthz`)).status).toBe(200);
    await other.stop().catch(() => undefined);
  });

  test.each([
    ["GET", "/api"],
    ["GET", "/api/"],
    ["GET", "/api/nothing"],
    ["GET", "/api/runs/"],
    ["DELETE", "/api/runs"],
    ["POST", "/api/runs/counts"],
    ["HEAD", "/api/runs"],
    ["PROPFIND", "/api/runs"],
    ["OPTIONS", "/api/runs"],
  ])("§1.1 unknown route: %s %s → 404 not found", async (method, path) => {
    const answer = await sendRaw(server.url, `${method} ${path} HTTP/1.1\r\n${headerLines()}\r\n`);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([404, "application/json"]);
    expect(answer.body).toBe(method === "HEAD" ? "" : '{"error":"not found"}');
  });

  test("§1.1 body limit: more than 128 MiB → 413, said by length before anything is sent", async () => {
    const request = `POST /api/sessions HTTP/1.1\r\n${headerLines()}Content-Length: ${128 * 1024 * 1024 + 1}\r\n\r\n`;
    const answer = await sendRaw(server.url, request);
    expect(answer.status).toBe(413);
    expectEnvelope(answer);
  });

  test.each([
    ["an unknown field", '{"reason":"x","more":1}'],
    ["a second value", "{} {}"],
    ["a list", "[]"],
    ["a text", '"x"'],
    ["null", "null"],
    ["nothing", ""],
    ["white space", "  "],
    ["half an object", '{"reason":'],
    ["a byte order mark", "\uFEFF{}"],
    ["bytes that are no UTF-8", Buffer.from([0x7b, 0xff, 0x7d])],
  ])("§1.1 strict JSON: 400 for a body with %s", async (_name, body) => {
    const { body: started } = await start();
    const answer = await post(`/api/sessions/${started.session.id}/close`, body);
    expect(answer.status).toBe(400);
    expectEnvelope(answer);
  });

  test("§1.1 what is not JSON is not quoted: it may be a secret", async () => {
    const answer = await server.request("PUT", "/secrets/A", undefined, { raw: "hidden-value" });
    expect(answer.status).toBe(400);
    expect(JSON.stringify(answer.body)).not.toContain("hidden");
  });
});

describe("§1.2 request headers", () => {
  const ask = (version: string) =>
    server.request("GET", "/runs", undefined, { headers: { "helmr-api-version": version } });

  test("§1.2 Helmr-API-Version: absent and right are served, any other value is 400", async () => {
    expect((await server.request("GET", "/runs")).status).toBe(200);
    expect((await ask("2026-06-06")).status).toBe(200);
    for (const version of ["2020-01-01", "2026-06-07", "latest", "2026-06-06, 2026-06-06"]) {
      expect((await ask(version)).status).toBe(400);
    }
  });

  test("§1.2 Helmr-API-Version is echoed by every answer", async () => {
    const answers = [
      await server.request("GET", "/runs"),
      await ask("2020-01-01"),
      await server.request("GET", "/runs", undefined, { key: null }),
      await server.request("GET", "/nothing"),
      await server.request("POST", "/sessions", undefined, { raw: "{" }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 400, 401, 404, 400]);
    for (const { headers } of answers) expect(headers.get("helmr-api-version")).toBe("2026-06-06");
    expect((await get("http://helmr/api/runs")).headers.get("helmr-api-version")).toBe("2026-06-06");
  });

  test("§1.2 the SDK's and CLI's versions are stored on the run; Helmr-Client-Version is the fallback", async () => {
    const startWith = async (headers: Record<string, string>) =>
      (await server.request("POST", "/sessions", { task_id: "hello" }, { headers })).body.run;
    const sdk = await startWith({ "helmr-sdk-version": "0.1.0" });
    expect([sdk.sdk_version, Object.hasOwn(sdk, "cli_version")]).toEqual(["0.1.0", false]);
    const cli = await startWith({ "helmr-cli-version": "1.0.0", "helmr-client-version": "2.0.0" });
    expect([cli.cli_version, Object.hasOwn(cli, "sdk_version")]).toEqual(["1.0.0", false]);
    expect((await startWith({ "helmr-client-version": "2.0.0" })).cli_version).toBe("2.0.0");
  });

  test.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "garbage",
    "",
  ])("§1.2 Content-Type %j is not enforced", async (type) => {
    expect((await post("/api/sessions", hello, `Content-Type: ${type}\r\n`)).status).toBe(201);
  });
});

describe("§1.3 errors", () => {
  test.each([
    ["no HTTP", "GARBAGE\r\n\r\n", 400],
    ["an unknown method", "FOO /api/runs HTTP/1.1\r\nHost: a\r\n\r\n", 400],
    ["a NUL in a header", "GET /api/runs HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", 400],
    [
      "two lengths",
      "POST /api/runs HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
    ],
    [
      "a bad chunk",
      "POST /api/sessions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      400,
    ],
    ["a URL that is too long", `GET /api/tasks/${"a".repeat(60_000)} HTTP/1.1\r\nHost: a\r\n\r\n`, 431],
  ])("§1.3 the envelope for %s", async (_name, bytes, status) => {
    // The parser reports the first of two problems: what is not authenticated may be told so.
    const answer = await sendRaw(server.url, bytes);
    expect([status, 401]).toContain(answer.status);
    expectEnvelope(answer);
  });

  test.each([
    ["/api/%zz", 400],
    ["/api/tasks/%ff", 400],
    ["/api/tasks/a%00b", 400],
    ["/api/runs/not-a-uuid", 400],
    [`/api/runs/${crypto.randomUUID()}`, 404],
    ["/api/runs?limit=0", 400],
    ["/api/runs?limit=201", 400],
    ["/api/runs?limit=1&limit=2", 400],
    ["/api/runs?limit=1e2", 400],
    ["/api/runs?status=unknown", 400],
  ])("§1.3 the envelope for GET %s", async (target, status) => {
    const answer = await get(target);
    expect(answer.status).toBe(status);
    expectEnvelope(answer);
  });

  test("§1.3 the envelope for a parameter that is too long", async () => {
    const answer = await get(`/api/tasks/${"a".repeat(600)}`);
    expect(answer.status).toBe(400);
    expectEnvelope(answer);
  });

  test("§1.3 the envelope for a request without Host", async () => {
    const answer = await sendRaw(server.url, "GET /api/runs HTTP/1.1\r\nConnection: close\r\n\r\n");
    expect(answer.status).toBe(400);
    expectEnvelope(answer);
  });

  test("§1.3 an expectation that we do not know is no error", async () => {
    expect((await post("/api/sessions", hello, "Expect: something\r\n")).status).toBe(201);
  });

  test("§1.3 code is there for coded errors", async () => {
    const answer = await server.request("POST", "/sessions", { task_id: "not-there" });
    expect([answer.status, Object.keys(answer.body), answer.body.code]).toEqual([
      409,
      ["error", "code"],
      "task_not_deployed",
    ]);
  });
});

describe("§1.4 actors and scoping", () => {
  const sessionOf = async () => (await server.newMember("owner")).token;

  test("§1.4 project_id and environment_id are refused in query and body, for keys and sessions", async () => {
    const token = await sessionOf();
    for (const field of ["project_id", "environment_id"]) {
      for (const [prefix, key] of [
        ["", server.key],
        [server.prefix, token],
      ] as const) {
        const ask = (method: string, path: string, body?: object) =>
          server.request(method, `${prefix}${path}`, body, { key });
        expect((await ask("GET", `/runs?${field}=x`)).status).toBe(400);
        expect((await ask("POST", "/sessions", { task_id: "hello", [field]: "x" })).status).toBe(400);
        expect((await ask("PUT", "/secrets/A", { value: "v", [field]: "x" })).status).toBe(400);
      }
    }
  });

  test("§1.4 an API key on the prefixed routes → 401 session authentication is required", async () => {
    const answer = await server.request("GET", `${server.prefix}/runs`);
    expect([answer.status, answer.body]).toEqual([401, { error: "session authentication is required" }]);
  });

  test("§1.4 a session on the unprefixed routes → 400, on those of §3 → 403", async () => {
    const key = await sessionOf();
    expect((await server.request("GET", "/runs", undefined, { key })).status).toBe(400);
    expect((await server.request("GET", "/sessions", undefined, { key })).status).toBe(403);
  });

  test("§1.4 project and environment by UUID or slug, which is matched in lower case", async () => {
    const key = await sessionOf();
    const { projectId, environmentId } = server.scope;
    for (const project of [projectId, projectId.toUpperCase(), "test", "TEST"]) {
      for (const environment of [environmentId, "production", "PRODUCTION"]) {
        const path = `/projects/${project}/environments/${environment}/runs`;
        expect((await server.request("GET", path, undefined, { key })).status).toBe(200);
      }
    }
  });

  test("§1.4 both families answer the same", async () => {
    const key = await sessionOf();
    const { body: started } = await start();
    for (const path of [
      `/runs/${started.run.id}`,
      `/sessions/${started.session.id}`,
      "/tasks",
      "/sandboxes",
    ]) {
      const [one, two] = [
        await server.request("GET", path),
        await server.request("GET", `${server.prefix}${path}`, undefined, { key }),
      ];
      expect([one.status, one.body]).toEqual([two.status, two.body]);
    }
  });

  test("§1.4 a record in another scope → 404, the same answer as for a missing one", async () => {
    const other = await seedEnvironment(server.db);
    const key = await server.newKey(other.scope);
    const { body: started } = await start();
    const ask = async (id: string): Promise<Pick<Answer, "status" | "body">> => {
      const { status, body } = await server.request("GET", `/runs/${id}`, undefined, { key });
      return { status, body };
    };
    expect(await ask(started.run.id)).toEqual(await ask(crypto.randomUUID()));
    expect((await ask(started.run.id)).status).toBe(404);
  });

  test('§1.5 a missing permission → 403 {"error":"permission is required"}', async () => {
    const key = await server.newKey(server.scope, ["tokens:read"]);
    const answer = await server.request("GET", "/runs", undefined, { key });
    expect([answer.status, answer.body]).toEqual([403, { error: "permission is required" }]);
  });
});

describe("§1.6 CORS", () => {
  test("§1.6 no CORS header outside of the three browser routes, whatever the Origin", async () => {
    for (const origin of [server.publicUrl, "https://elsewhere.example"]) {
      const answer = await server.request("GET", "/runs", undefined, { headers: { origin } });
      expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control-"))).toEqual([]);
    }
  });
});
