/** Contract 5.2: making public access tokens. Using them: 4-3-public-streams.test.ts. */
import { seedEnvironment } from "@helmr/store/testing";
import { describe, expect, test } from "vitest";
import type { RequestOptions } from "../../packages/control-plane/test/support/server.ts";
import * as shapes from "./support/stream-shapes.ts";
import { expectShape } from "./support/stream-shapes.ts";
import { refusal } from "./support/strict.ts";
import { post, server, unknown } from "./support/tokens.ts";

describe("§5.2 public access tokens", () => {
  const started = async (external_id: string) =>
    (await post("/sessions", { task_id: "hello", external_id })).body.session.id as string;
  const scopeOf = (id: string, more: object = {}) => ({
    type: "session.input.send",
    session: { type: "id", id },
    stream: "answers",
    ...more,
  });
  const make = (body: object, options?: RequestOptions) => post("/public-access-tokens", body, options);

  test("§5.2 §14.16 201: session always by id, 30 days, max_uses and correlation_id only when given", async () => {
    const id = await started("pat one");
    const least = await make({ scope: scopeOf(id) });
    expect(least.status).toBe(201);
    expectShape(least.body, shapes.publicAccessToken);
    expect(least.body.scope).toEqual(scopeOf(id));
    expect(least.body).not.toHaveProperty("max_uses");
    const { created_at, expires_at } = least.body;
    expect((Date.parse(expires_at) - Date.parse(created_at)) / 86_400_000).toBeCloseTo(30, 2);
    const at = new Date(Date.now() + 3_600_000).toISOString();
    const session = { type: "external_id", external_id: "pat one" };
    const most = await make({
      scope: { type: "session.output.read", session, stream: "news", correlation_id: "c" },
      expires_at: at,
      max_uses: 3,
    });
    expect(most.status).toBe(201);
    expectShape(most.body, shapes.publicAccessToken);
    expect(most.body).toMatchObject({
      scope: {
        type: "session.output.read",
        session: { type: "id", id },
        stream: "news",
        correlation_id: "c",
      },
      expires_at: at,
      max_uses: 3,
    });
  });

  test("§5.2 a past expiry → 410 token_expired, an unknown session → 404, a wrong shape → 400", async () => {
    const id = await started("pat two");
    const past = await make({ scope: scopeOf(id), expires_at: "2020-01-01T00:00:00Z" });
    expect(refusal(past)).toEqual([410, "token_expired"]);
    for (const session of [
      { type: "id", id: unknown },
      { type: "external_id", external_id: "missing" },
    ]) {
      expect((await make({ scope: scopeOf(id, { session }) })).status).toBe(404);
    }
    for (const body of [
      {},
      { scope: scopeOf(id, { type: "runs.read" }) },
      { scope: scopeOf(id, { stream: "-x" }) },
      { scope: scopeOf(id, { session: { type: "id", id: "" } }) },
      { scope: scopeOf(id, { session: { type: "external_id", external_id: "" } }) },
      { scope: scopeOf(id, { session: id }) },
      { scope: scopeOf(id, { more: 1 }) },
      { scope: scopeOf(id), max_uses: 0 },
      { scope: scopeOf(id), max_uses: -1 },
      { scope: scopeOf(id), max_uses: 1.5 },
      { scope: scopeOf(id), expires_at: "soon" },
      { scope: scopeOf(id), more: 1 },
      { scope: scopeOf(id), project_id: server.scope.projectId },
      { scope: scopeOf(id), project_id: server.scope.projectId, environment_id: server.scope.environmentId },
    ]) {
      expect({ body, status: (await make(body)).status }).toEqual({ body, status: 400 });
    }
    expect((await make(undefined as unknown as object)).status).toBe(400);
  });

  test("§5 §5.2 the permission goes by the scope's type; a session actor sends both ids; unprefixed only", async () => {
    const id = await started("pat three");
    const [input, output] = [scopeOf(id), scopeOf(id, { type: "session.output.read", stream: "news" })];
    const sender = { key: await server.newKey(server.scope, ["session-input:send"]) };
    const reader = { key: await server.newKey(server.scope, ["session-streams:read"]) };
    const statuses = [];
    for (const options of [sender, reader]) {
      for (const scope of [input, output]) statuses.push((await make({ scope }, options)).status);
    }
    expect(statuses).toEqual([201, 403, 403, 201]);
    const { token: key } = await server.newMember("developer");
    const here = { project_id: server.scope.projectId, environment_id: server.scope.environmentId };
    const made = await make({ scope: input, ...here }, { key });
    expect(made.status).toBe(201);
    expectShape(made.body, shapes.publicAccessToken);
    expect((await make({ scope: input }, { key })).status).toBe(400);
    expect((await make({ scope: input, project_id: here.project_id }, { key })).status).toBe(400);
    expect((await make({ scope: input }, { key: null })).status).toBe(401);
    const prefixed = await post(`${server.prefix}/public-access-tokens`, { scope: input }, { key });
    expect([prefixed.status, prefixed.body]).toEqual([404, { error: "not found" }]);
  });

  test("§5.2 max_uses absent = unlimited; a session of another environment is none of its own", async () => {
    const id = await started("pat four");
    const { body } = await make({ scope: scopeOf(id) });
    for (let data = 0; data < 5; data += 1) {
      const sent = await post(
        `/v1/sessions/${id}/inputs/answers`,
        { data },
        { key: body.public_access_token },
      );
      expect(sent.status).toBe(201);
    }
    const elsewhere = await server.newKey((await seedEnvironment(server.db)).scope);
    expect((await make({ scope: scopeOf(id) }, { key: elsewhere })).status).toBe(404);
  });
});
