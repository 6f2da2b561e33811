/** What holds for every route: lost credentials, scopes, headers, failures, the OpenAPI document. */
import { readFile } from "node:fs/promises";
import { apiPrefix, environmentRoutePrefix, openapiDocument, type RouteDefinition, routes } from "@helmr/api";
import { revokeApiKey } from "@helmr/store";
import { seedTask } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readAnswer, startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, { taskId: "hello" });
});
afterAll(() => server.stop());

const fetched = async (path: string, init?: RequestInit) =>
  readAnswer(await fetch(`${server.url}${path}`, init));

describe("credentials", () => {
  test("expired and revoked keys", async () => {
    const soon = new Date(Date.now() + 3_600_000);
    const expiring = await server.newKey(server.scope, ["runs:read"], soon);
    expect((await server.request("GET", "/runs", undefined, { key: expiring })).status).toBe(200);
    const expired = await server.newKey(server.scope, ["runs:read"], new Date(Date.now() - 1000));
    expect((await server.request("GET", "/runs", undefined, { key: expired })).status).toBe(401);
    const { id } = await server.db
      .selectFrom("api_keys")
      .select("id")
      .where("expires_at", "=", soon)
      .executeTakeFirstOrThrow();
    expect(await revokeApiKey(server.db, server.scope, id)).toBe(true);
    expect(await revokeApiKey(server.db, server.scope, crypto.randomUUID())).toBe(false);
    // The revocation counts when the remembered grant is over.
    let answer = await server.request("GET", "/runs", undefined, { key: expiring });
    const endMs = Date.now() + 10_000;
    while (answer.status === 200 && Date.now() < endMs) {
      answer = await server.request("GET", "/runs", undefined, { key: expiring });
    }
    expect(answer.status).toBe(401);
  });

  test("the last use is noted when the server closes at the latest", async () => {
    const other = await startTestServer();
    try {
      await other.request("GET", "/runs");
      await other.close();
      const { rows } = await sql<{
        used: boolean;
      }>`select last_used_at is not null as used from api_keys`.execute(other.db);
      expect(rows).toEqual([{ used: true }]);
    } finally {
      await other.stop();
    }
  });
});

describe("requests", () => {
  test("every answer has an id and the security headers", async () => {
    for (const path of ["/runs", "/nothing"]) {
      const { headers } = await server.request("GET", path);
      expect(headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
    }
  });

  test("elsewhere than /api there is nothing", async () => {
    expect(await fetched("/elsewhere")).toMatchObject({ status: 404 });
  });

  test("a body that is too large", async () => {
    const response = await fetch(`${server.url}/api/sessions`, {
      method: "POST",
      headers: { authorization: `Bearer ${server.key}` },
      body: new Uint8Array(128 * 1024 * 1024 + 1),
    }).catch(() => undefined);
    // Refused by its length: the server may close the connection while the client still sends.
    if (response !== undefined) expect(await readAnswer(response)).toMatchObject({ status: 413 });
  });

  test("a failure inside says nothing internal", async () => {
    const other = await startTestServer();
    try {
      await other.request("GET", "/runs");
      await sql`alter table runs rename to runs_gone`.execute(other.db);
      const answer = await other.request("GET", "/runs");
      expect(answer.status).toBe(500);
      expect(answer.body).toEqual({ error: "internal server error" });
    } finally {
      await other.stop();
    }
  });
});

describe("secrets", () => {
  test("are set, listed and deleted; values do not come back", async () => {
    const put = await server.request("PUT", "/secrets/API_KEY", { value: "hidden-value" });
    expect(put).toMatchObject({
      status: 200,
      body: { name: "API_KEY", environment_id: server.scope.environmentId },
    });
    const again = await server.request("PUT", "/secrets/API_KEY", { value: "" });
    expect(again.body.created_at).toBe(put.body.created_at);
    expect((await server.request("GET", "/secrets/API_KEY")).body).toEqual(again.body);
    expect((await server.request("GET", "/secrets")).body.secrets).toContainEqual(again.body);
    const deleted = await server.request("DELETE", "/secrets/API_KEY");
    expect(deleted).toMatchObject({ status: 204, body: "" });
    expect((await server.request("DELETE", "/secrets/API_KEY")).status).toBe(404);
    expect((await server.request("GET", "/secrets/API_KEY")).status).toBe(404);
  });

  test.each([
    ["/secrets/-x", { value: "v" }],
    ["/secrets/A", {}],
    ["/secrets/A", { value: 1 }],
    ["/secrets/A", { value: "v", project_id: "p" }],
    ["/secrets/A", { value: "x".repeat(64 * 1024 + 1) }],
  ])("400 for %s", async (path, body) => {
    expect((await server.request("PUT", path, body)).status).toBe(400);
  });

  test("are not readable in the database", async () => {
    await server.request("PUT", "/secrets/STORED", { value: "hidden-value" });
    const { rows } = await sql<{ row: string }>`select s::text as row from secrets s`.execute(server.db);
    expect(JSON.stringify(rows)).not.toContain(Buffer.from("hidden-value").toString("hex"));
  });
});

describe("health and documents", () => {
  test("healthz and readyz", async () => {
    expect(await fetched("/healthz")).toMatchObject({ status: 200, body: { status: "ok" } });
    expect(await fetched("/readyz")).toMatchObject({ status: 200, body: { status: "ready" } });
  });

  test("the OpenAPI document is served, is the one checked in, and has every route", async () => {
    const { body } = await fetched("/api/openapi.json");
    expect(body).toEqual(openapiDocument());
    const stored = await readFile(new URL("../../../docs/openapi.json", import.meta.url), "utf8");
    expect(JSON.parse(stored)).toEqual(body);
    const documented = Object.entries<object>(body.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ":$1")}`),
    );
    const registered = Object.values<RouteDefinition>(routes).flatMap(({ method, path, access }) => [
      ...(access.kind === "environment-member" ? [] : [`${method} ${path}`]),
      ...(access.kind.startsWith("environment")
        ? [`${method} ${environmentRoutePrefix.slice(apiPrefix.length)}${path}`]
        : []),
    ]);
    expect(documented.sort()).toEqual(registered.sort());
  });
});
