/** Contract 7, 7.1, 7.2 and 7.7: workspaces, files and versions, each answer held to what strict clients take. */
import { apiKeyScopes } from "@helmr/api";
import { seedEnvironment, seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type RequestOptions,
  startTestServer,
  type TestServer,
} from "../../packages/control-plane/test/support/server.ts";
import { sendRaw } from "./support/raw.ts";
import { refusal, strictRequest } from "./support/strict.ts";
import * as shapes from "./support/workspace-shapes.ts";
import { expectList, expectShape } from "./support/workspace-shapes.ts";

let server: TestServer;
const unknown = "019a0000-0000-7000-8000-000000000000";
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope);
});
afterAll(() => server.stop());

const post = (path: string, body?: unknown, options?: RequestOptions) =>
  strictRequest(server, "POST", path, body, options);
const get = (path: string, options?: RequestOptions) =>
  strictRequest(server, "GET", path, undefined, options);
const patch = (path: string, body: unknown) => strictRequest(server, "PATCH", path, body);
const remove = (path: string) => strictRequest(server, "DELETE", path);
const create = async (body: object = {}): Promise<string> =>
  (await post("/workspaces", { sandbox_id: "box", ...body })).body.workspace.id;
const put = async (id: string, path: string, content: string) =>
  (
    await strictRequest(server, "PUT", `/workspaces/${id}/files/content?path=${path}`, undefined, {
      raw: content,
    })
  ).body.version;

describe("§7 routes of workspaces", () => {
  test("§7.1 §7.2 create 201, cached 201 with is_cached; get, list, patch and delete answer the object in envelopes", async () => {
    const body = {
      sandbox_id: "box",
      external_id: "contract",
      metadata: { a: 1 },
      tags: ["t"],
      idempotency_key: "k",
      idempotency_key_ttl: "1h30m",
    };
    const made = await post("/workspaces", body);
    expect([made.status, Object.keys(made.body)]).toEqual([201, ["workspace"]]);
    expectShape(made.body, shapes.createdWorkspace);
    const again = await post("/workspaces", body);
    expect([again.status, again.body]).toEqual([201, { ...made.body, is_cached: true }]);
    const { id } = made.body.workspace;
    const read = await get(`/workspaces/${id}`);
    expect([read.status, read.body]).toEqual([200, made.body]);
    const list = await get("/workspaces?external_id=contract");
    expectList(list.body, "workspaces", shapes.workspace);
    expect(Object.keys(list.body)).toEqual(["workspaces"]);
    const patched = await patch(`/workspaces/${id}`, { metadata: { b: 2 } });
    expectShape(patched.body, shapes.workspaceEnvelope);
    expect(patched.body.workspace).toMatchObject({ metadata: { b: 2 }, tags: ["t"] });
    const archived = await remove(`/workspaces/${id}`);
    expect(archived.status).toBe(200);
    expectShape(archived.body, shapes.workspaceEnvelope);
    expect(archived.body.workspace).toMatchObject({ state: "archived", desired_state: "archived" });
  });

  test.each([
    [{}],
    [{ sandbox_id: "box", deployment_id: "1" }],
    [{ sandbox_id: "box", project_id: unknown }],
    [{ sandbox_id: "box", idempotency_key: "x", idempotency_key_ttl: "1d" }],
    [{ sandbox_id: "box", idempotency_key: "x".repeat(513) }],
    [{ sandbox_id: "box", tags: Array.from({ length: 11 }, (_, n) => `${n}`) }],
    [{ sandbox_id: "box", tags: ["é".repeat(65)] }],
    [{ sandbox_id: "box", metadata: "x" }],
    [{ sandbox_id: "box", extra: true }],
    [[]],
  ])("§7.2 every validation error is 400: %j", async (body) => {
    expect(refusal(await post("/workspaces", body))).toEqual([400, undefined]);
  });

  test("§7.2 409 by code: a sandbox that is not deployed, a key with other parameters; of an external id without one", async () => {
    await create({ external_id: "once", idempotency_key: "other" });
    const again = (body: object) => post("/workspaces", { sandbox_id: "box", ...body });
    expect(refusal(await again({ sandbox_id: "none" }))).toEqual([409, "sandbox_not_deployed"]);
    expect(refusal(await again({ external_id: "once" }))).toEqual([409, undefined]);
    expect(refusal(await again({ idempotency_key: "other" }))).toEqual([
      409,
      "idempotency_fingerprint_mismatch",
    ]);
  });

  test("§7.2 the same key in flight: 202, Retry-After, idempotency_pending", async () => {
    await server.db.transaction().execute(async (tx) => {
      const name = `${server.scope.environmentId} workspace.create flying`;
      await sql`select pg_advisory_xact_lock(hashtextextended(${name}, 0))`.execute(tx);
      const answer = await server.request("POST", "/workspaces", {
        sandbox_id: "box",
        idempotency_key: "flying",
      });
      expect([answer.status, answer.headers.get("retry-after"), answer.body]).toEqual([
        202,
        "1",
        { error: expect.any(String), code: "idempotency_pending" },
      ]);
    });
  });

  test("§7 no UUID is 400, an unknown one 404 by its words, another environment's the same", async () => {
    const other = await server.newKey((await seedEnvironment(server.db)).scope);
    const id = await create();
    for (const [method, path, body] of [
      ["GET", "", undefined],
      ["PATCH", "", {}],
      ["DELETE", "", undefined],
      ["GET", "/files", undefined],
      ["GET", "/files/stat?path=a", undefined],
      ["GET", "/files/content?path=a", undefined],
      ["GET", "/versions", undefined],
      ["GET", `/versions/${unknown}`, undefined],
    ] as const) {
      const ask = (workspace: string, options?: RequestOptions) =>
        strictRequest(server, method, `/workspaces/${workspace}${path}`, body, options);
      expect(refusal(await ask("no-uuid"))).toEqual([400, undefined]);
      for (const answer of [await ask(unknown), await ask(id, { key: other })]) {
        expect([answer.status, answer.body]).toEqual([404, { error: "workspace not found" }]);
      }
    }
  });

  test("§7 list: state, tag, limit 1..200; anything else is 400", async () => {
    for (const query of ["state=archived", "tag=t", "limit=1", "limit=200", "external_id=x"]) {
      expect((await get(`/workspaces?${query}`)).status).toBe(200);
    }
    for (const query of ["limit=0", "limit=201", "state=paused", "tag=%00"]) {
      expect(refusal(await get(`/workspaces?${query}`))).toEqual([400, undefined]);
    }
  });

  test("§7 any ws perm reads workspaces, lifecycle:manage changes them, files and versions have their own", async () => {
    const id = await create();
    const version = await put(id, "a", "a");
    const allowed = async (scopes: readonly string[], method: string, path: string, body?: unknown) => {
      const key = await server.newKey(server.scope, scopes);
      const { status } = await server.request(method, path, body, { key });
      return status !== 403;
    };
    for (const scope of apiKeyScopes) {
      expect(await allowed([scope], "GET", `/workspaces/${id}`), scope).toBe(scope.startsWith("workspace-"));
    }
    const needs = [
      ["PATCH", "", {}, "workspace-lifecycle:manage"],
      ["GET", "/files", undefined, "workspace-files:read"],
      ["GET", "/files/stat?path=a", undefined, "workspace-files:read"],
      ["GET", "/files/content?path=a", undefined, "workspace-files:read"],
      ["GET", "/versions", undefined, "workspace-versions:read"],
      ["GET", `/versions/${version.id}`, undefined, "workspace-versions:read"],
    ] as const;
    for (const [method, path, body, scope] of needs) {
      const others = apiKeyScopes.filter((other) => other !== scope);
      expect(await allowed([scope], method, `/workspaces/${id}${path}`, body), path).toBe(true);
      expect(await allowed(others, method, `/workspaces/${id}${path}`, body), path).toBe(false);
    }
  });

  test("§3.1 a session with the workspace touches it; of an archived one it is refused", async () => {
    const id = await create();
    await sql`update workspaces set last_activity_at = now() - interval '1 day' where id = ${id}`.execute(
      server.db,
    );
    const start = () => post("/sessions", { task_id: "hello", workspace_id: id });
    const { status, body } = await start();
    expect([status, body.session.workspace_id]).toEqual([201, id]);
    const { last_activity_at } = (await get(`/workspaces/${id}`)).body.workspace;
    expect(Date.now() - Date.parse(last_activity_at)).toBeLessThan(3_600_000);
    expect(refusal(await remove(`/workspaces/${id}`))).toEqual([409, "workspace_in_use"]);
    await post(`/sessions/${body.session.id}/cancel`, {});
    expect((await remove(`/workspaces/${id}`)).status).toBe(200);
    expect(refusal(await start())).toEqual([409, "workspace_not_active"]);
  });
});

describe("§7.7 files and versions", () => {
  test("list: direct children by name, pages by cursor; entries and versions have the contract's fields and no others", async () => {
    const id = await create();
    for (const path of ["b", "a", "c/d"]) expectShape(await put(id, path, path), shapes.version);
    const list = await get(`/workspaces/${id}/files`);
    expectShape(list.body, shapes.entryList);
    expect(list.body.path).toBe("");
    expect(list.body.entries.map((entry: { name: string }) => entry.name)).toEqual(["a", "b", "c"]);
    const first = await get(`/workspaces/${id}/files?limit=2`);
    expectShape(first.body, shapes.entryList);
    const rest = await get(`/workspaces/${id}/files?limit=2&cursor=${first.body.next_cursor}`);
    expect(rest.body.entries.map((entry: { name: string }) => entry.name)).toEqual(["c"]);
    expect(Object.keys(rest.body)).toEqual(["path", "entries"]);
    const below = await get(`/workspaces/${id}/files?path=c`);
    expect([below.body.path, below.body.entries[0].path]).toEqual(["c", "c/d"]);
    const stat = await get(`/workspaces/${id}/files/stat?path=c/d`);
    expectShape(stat.body, shapes.entryEnvelope);
    expect(stat.body.entry).toEqual(below.body.entries[0]);
    const versions = await get(`/workspaces/${id}/versions`);
    expectList(versions.body, "versions", shapes.version);
    expect(Object.keys(versions.body)).toEqual(["versions"]);
    const times = versions.body.versions.map((version: { created_at: string }) => version.created_at);
    expect(times).toEqual([...times].sort().reverse());
    const one = await get(`/workspaces/${id}/versions/${versions.body.versions[0].id}`);
    expectShape(one.body, shapes.versionEnvelope);
    expect(refusal(await get(`/workspaces/${id}/versions/${unknown}`))).toEqual([404, undefined]);
    expect(refusal(await get(`/workspaces/${id}/versions/x`))).toEqual([400, undefined]);
  });

  test("content: 200 raw bytes, application/octet-stream, as they are on the wire", async () => {
    const id = await create();
    await put(id, "a", "raw bytes\n");
    const answer = await sendRaw(
      server.url,
      `GET /api/workspaces/${id}/files/content?path=a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${server.key}\r\nConnection: close\r\n\r\n`,
    );
    expect([answer.status, answer.body]).toEqual([200, "raw bytes\n"]);
    expect(answer.headers.get("content-type")).toBe("application/octet-stream");
    expect(answer.headers.get("content-length")).toBe("10");
    expect(answer.headers.get("helmr-api-version")).toBe("2026-06-06");
  });

  test("sources: current by default, a version by its id; version_id without source=version is 400", async () => {
    const id = await create();
    const before = await put(id, "a", "old");
    await put(id, "a", "new, longer");
    const size = async (query: string) =>
      (await get(`/workspaces/${id}/files/stat?path=a${query}`)).body.entry.size_bytes;
    expect(await size("")).toBe(11);
    expect(await size("&source=current")).toBe(11);
    expect(await size(`&source=version&version_id=${before.id}`)).toBe(3);
    for (const query of [
      `&version_id=${before.id}`,
      `&source=current&version_id=${before.id}`,
      `&source=live&version_id=${before.id}`,
      "&source=version",
      "&source=version&version_id=x",
      "&source=newest",
    ]) {
      expect(refusal(await get(`/workspaces/${id}/files/stat?path=a${query}`))).toEqual([400, undefined]);
    }
    expect(refusal(await get(`/workspaces/${id}/files/stat?path=a&source=live`))).toEqual([
      409,
      "workspace_not_live",
    ]);
  });

  test("paths: .. and NUL are 400, a missing one 404, a directory's content 400", async () => {
    const id = await create();
    await put(id, "c/d", "x");
    for (const what of ["stat", "content"]) {
      for (const path of ["..", "../x", "c/../../x", "c%00d", "%00"]) {
        expect(refusal(await get(`/workspaces/${id}/files/${what}?path=${path}`))).toEqual([400, undefined]);
      }
      expect(refusal(await get(`/workspaces/${id}/files/${what}`))).toEqual([400, undefined]);
      expect(refusal(await get(`/workspaces/${id}/files/${what}?path=none`))).toEqual([404, undefined]);
    }
    expect(refusal(await get(`/workspaces/${id}/files/content?path=c`))).toEqual([400, undefined]);
    expect(refusal(await get(`/workspaces/${id}/files?path=none`))).toEqual([404, undefined]);
    for (const query of ["limit=0", "limit=501", "path=.."]) {
      expect(refusal(await get(`/workspaces/${id}/files?${query}`))).toEqual([400, undefined]);
    }
  });

  test("reads start nothing: no live copy, no lease, the workspace stays clean", async () => {
    const id = await create();
    await put(id, "a", "a");
    const before = (await get(`/workspaces/${id}`)).body;
    await get(`/workspaces/${id}/files`);
    await get(`/workspaces/${id}/files/stat?path=a`);
    await get(`/workspaces/${id}/versions`);
    expect((await get(`/workspaces/${id}`)).body).toEqual(before);
    const { rows } = await sql`select from workspace_materializations where workspace_id = ${id}`.execute(
      server.db,
    );
    expect(rows).toHaveLength(0);
  });
});
