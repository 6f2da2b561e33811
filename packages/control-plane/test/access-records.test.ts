/**
 * Another scope's record is not there: every route that names a record answers for one of another environment exactly as
 * for one that nobody has; lists and counts do not show it; idempotency keys and external ids of two environments never meet.
 */
import { type RouteDefinition, routes } from "@helmr/api";
import { type ActingScope, uuidv7 } from "@helmr/store";
import { seedEnvironment, seedMember, seedStream, seedTask, seedVersion } from "@helmr/store/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

interface Side {
  readonly scope: ActingScope;
  readonly key: string;
  readonly owner: string;
  readonly prefix: string;
}

let server: TestServer;
/** Two environments of one project, and one of another organization. */
let one: Side;
let sibling: Side;
let stranger: Side;
const missing = "019a0000-0000-7000-8000-000000000000";
/** By the name of the path's parameter: a record of `one`. */
const records = new Map<string, string>();

beforeAll(async () => {
  server = await startTestServer();
  one = await sideOf(server.scope);
  sibling = await sideOf({ ...server.scope, environmentId: await addEnvironment(server.scope, "staging") });
  stranger = await sideOf((await seedEnvironment(server.db)).scope);
  const task = await seedTask(server.db, one.scope, { taskId: "hello" });
  const { deploymentId } = task;
  await seedStream(server.db, task, "planted", "input");
  await seedStream(server.db, task, "planted", "output");
  const start = { task_id: "hello", external_id: "planted", idempotency_key: "planted" };
  const started = await server.request("POST", "/sessions", start);
  await server.request("PUT", "/secrets/PLANTED", { value: "v" });
  records.set("sessionID", started.body.session.id);
  records.set("runID", started.body.run.id);
  records.set("deploymentID", deploymentId);
  records.set("deployment", deploymentId);
  records.set("tokenID", (await server.request("POST", "/tokens", {})).body.id);
  const schedule = { deduplication_key: "planted", task: "hello", cron: "0 9 * * *" };
  records.set("scheduleID", (await server.request("POST", "/schedules", schedule)).body.id);
  records.set("queueName", "task%2Fhello");
  records.set("stream", "planted");
  const workspace = {
    sandbox_id: "box",
    external_id: "planted",
    tags: ["planted"],
    idempotency_key: "planted",
  };
  const workspaceID = (await server.request("POST", "/workspaces", workspace)).body.workspace.id;
  records.set("workspaceID", workspaceID);
  const exec = await server.request("POST", `/workspaces/${workspaceID}/execs`, { command: ["true"] });
  records.set("execID", exec.body.exec.id);
  await server.request("POST", `/workspaces/${workspaceID}/stop`, {});
  const pty = await server.request("POST", `/workspaces/${workspaceID}/pty`, {});
  records.set("ptyID", pty.body.pty.id);
  await server.request("POST", `/workspaces/${workspaceID}/stop`, {});
  records.set("versionID", await seedVersion(server.db, one.scope, workspaceID));
  records.set("taskID", "hello");
  records.set("sandboxID", "box");
  records.set("name", "PLANTED");
  const asOwner = (method: string, path: string, body?: object) =>
    server.request(method, path, body, { key: one.owner });
  const key = { name: "planted", permissions: [{ scopes: ["runs:read"] }] };
  records.set("apiKeyID", (await asOwner("POST", `${one.prefix}/api-keys`, key)).body.id);
  const invitation = await asOwner("POST", "/invitations", { email: "planted@example.com", role: "viewer" });
  records.set("invitationID", invitation.body.id);
  records.set("userID", (await seedMember(server.db, one.scope.organizationId, "viewer")).userId);
  records.set("projectID", one.scope.projectId);
  records.set("environmentID", one.scope.environmentId);
  records.set("organizationID", one.scope.organizationId);
});
afterAll(() => server.stop());

async function sideOf(scope: ActingScope): Promise<Side> {
  return {
    scope,
    key: await server.newKey(scope),
    owner: (await seedMember(server.db, scope.organizationId, "owner")).token,
    prefix: `/projects/${scope.projectId}/environments/${scope.environmentId}`,
  };
}

async function addEnvironment({ organizationId, projectId }: ActingScope, slug: string): Promise<string> {
  const id = uuidv7();
  const values = {
    id,
    organization_id: organizationId,
    project_id: projectId,
    slug,
    name: slug,
    color_hex: "#112233",
  };
  await server.db.insertInto("environments").values(values).execute();
  return id;
}

/** The body with which a route gets as far as looking for its record; `{}` does for the others. */
const bodies: Readonly<Record<string, object>> = {
  createExec: { command: ["true"] },
  writeExecStdin: { offset: 0, data: "eA==" },
  writePtyInput: { offset: 0, data: "eA==" },
  resizePty: { cols: 80, rows: 24 },
  updateSchedule: { task: "hello", cron: "0 9 * * *" },
  patchMember: { role: "viewer", expected_role: "viewer" },
  patchProject: { slug: "other", name: "Other" },
  createEnvironment: { slug: "other", name: "Other", color_hex: "#112233" },
  patchEnvironment: { slug: "other", name: "Other", color_hex: "#112233" },
};

/** The same of the query. */
const queries: Readonly<Record<string, string>> = {
  getWorkspaceFile: "?path=x",
  putWorkspaceFile: "?path=x",
  statWorkspaceFile: "?path=x",
  diffWorkspaceFile: "?path=x",
};

const table = Object.entries<RouteDefinition>(routes);
const parameters = /:([A-Za-z]+)/g;
const naming = table.filter(([name, { path, access }]) => {
  // Setting a secret makes one where there is none.
  if (name === "putSecret") return false;
  // Their credentials are of one session or token: public-access.test.ts, tokens.test.ts.
  if (access.kind === "public-access" || access.kind === "token") return false;
  // The installation's, and no environment's.
  if (access.kind === "operator") return false;
  return path.includes(":") || path.includes("by-external-id");
});

/** `record` says what stands for each of the path's parameters. */
async function ask(
  side: Side,
  [name, route]: (typeof table)[number],
  record: (parameter: string) => string,
  stream: boolean,
) {
  const byExternalId = route.path.includes("by-external-id");
  const filled = route.path.replace(parameters, (_, parameter: string) => record(parameter));
  const path = byExternalId
    ? `${filled}?external_id=${record("external_id")}`
    : `${filled}${stream ? "?follow=1" : (queries[name] ?? "")}`;
  const { status, body } = await server.request(
    route.method,
    `${route.access.kind === "environment-member" ? side.prefix : ""}${path}`,
    route.body === undefined ? undefined : (bodies[name] ?? {}),
    { key: route.access.kind === "environment" ? side.key : side.owner },
  );
  return { status, body };
}

const planted = (parameter: string): string => {
  if (parameter === "external_id") return "planted";
  const record = records.get(parameter);
  if (record === undefined) throw new Error(`plant a record for :${parameter}`);
  return record;
};
const nobodys = (parameter: string) => (/^[0-9a-f-]{36}$/.test(planted(parameter)) ? missing : "nobodys");

describe("a record of another environment", () => {
  test.each(naming)("%s", async (...entry) => {
    const [, { access, stream }] = entry;
    // The environments of one organization are its members' alike; only keys are bound to one of them.
    const strangers = access.kind.startsWith("environment") ? [sibling, stranger] : [stranger];
    for (const follow of stream === undefined ? [false] : [false, true]) {
      for (const side of strangers) {
        const answer = await ask(side, entry, planted, follow);
        expect(answer).toEqual(await ask(side, entry, nobodys, follow));
        expect(answer.status).toBe(404);
        expect(["error", "code"]).toEqual(expect.arrayContaining(Object.keys(answer.body)));
      }
    }
  });

  test("is what it was: its owner still finds it, unchanged", async () => {
    expect((await server.request("GET", `/runs/${records.get("runID")}`)).body.status).toBe("queued");
    expect((await server.request("GET", "/sessions/by-external-id?external_id=planted")).body.status).toBe(
      "open",
    );
    expect((await server.request("GET", "/secrets/PLANTED")).status).toBe(200);
    const read = async (path: string) =>
      (await server.request("GET", path, undefined, { key: one.owner })).body;
    expect((await read(`/projects/${one.scope.projectId}`)).environments).toHaveLength(2);
    expect((await read("/invitations")).invitations).toMatchObject([{ status: "pending" }]);
    expect((await read(`${one.prefix}/api-keys`)).items).toContainEqual(
      expect.objectContaining({ name: "planted" }),
    );
  });

  test("is in no list and no count", async () => {
    for (const { key } of [sibling, stranger]) {
      const get = async (path: string) => (await server.request("GET", path, undefined, { key })).body;
      const lists = [
        "/sessions?status=all",
        "/runs?status=all",
        "/deployments",
        "/tasks",
        "/sandboxes",
        "/secrets",
        "/schedules",
        "/queues",
        "/workspaces",
        "/workspaces?external_id=planted",
        "/workspaces?tag=planted",
      ];
      for (const path of [
        ...lists,
        "/sessions?external_id=planted",
        `/runs?status=all&session_id=${records.get("sessionID")}`,
        `/runs?status=all&schedule_id=${records.get("scheduleID")}`,
      ]) {
        expect(Object.values(await get(path))).toEqual([[]]);
      }
      expect(Object.values(await get("/runs/counts"))).toEqual([0, 0, 0, 0, 0, 0, 0]);
      expect(await get("/deployments/current")).toEqual({ deployment: null });
    }
    const list = async (path: string) =>
      JSON.stringify((await server.request("GET", path, undefined, { key: stranger.owner })).body);
    const ids = ["projectID", "environmentID", "userID", "invitationID", "organizationID", "apiKeyID"].map(
      planted,
    );
    for (const path of [
      "/projects",
      "/organizations",
      "/members",
      "/invitations",
      "/audit-log",
      `${stranger.prefix}/api-keys?filter=all`,
    ]) {
      const shown = await list(path);
      for (const id of ids) expect(shown).not.toContain(id);
    }
  });

  test("is not reached by a session through another environment's path either", async () => {
    for (const [side, status] of [
      [one, 200],
      [sibling, 404],
    ] as const) {
      const path = `${side.prefix}/runs/${records.get("runID")}`;
      expect((await server.request("GET", path, undefined, { key: one.owner })).status).toBe(status);
    }
    const hidden = await server.request("GET", `${one.prefix}/runs`, undefined, { key: stranger.owner });
    const nowhere = `/projects/${missing}/environments/${missing}/runs`;
    const absent = await server.request("GET", nowhere, undefined, { key: stranger.owner });
    expect([hidden.status, hidden.body]).toEqual([absent.status, absent.body]);
  });
});

describe("the same key in two environments", () => {
  beforeAll(async () => {
    for (const side of [sibling, stranger]) await seedTask(server.db, side.scope, { taskId: "hello" });
  });

  test("idempotency_key and external_id never meet: not in the answer, not in a mismatch", async () => {
    const start = (side: Side, body: object) =>
      server.request("POST", "/sessions", { task_id: "hello", ...body }, { key: side.key });
    for (const side of [sibling, stranger]) {
      // The same request, and one that would be a mismatch in the environment that has the key.
      const answer = await start(side, {
        external_id: "planted",
        idempotency_key: "planted",
        payload: "another",
      });
      expect([answer.status, Object.hasOwn(answer.body, "is_cached")]).toEqual([201, false]);
      expect(answer.body.session.environment_id).toBe(side.scope.environmentId);
    }
    const own = await start(one, { external_id: "planted", idempotency_key: "planted" });
    expect([own.status, own.body.is_cached, own.body.session.id]).toEqual([
      200,
      true,
      records.get("sessionID"),
    ]);
  });

  test("concurrent starts in both are both new: the lock on the key is per environment", async () => {
    const body = { task_id: "hello", idempotency_key: "concurrent", external_id: "concurrent" };
    const answers = await Promise.all(
      [one, sibling, stranger].map(({ key }) => server.request("POST", "/sessions", body, { key })),
    );
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201]);
    expect(new Set(answers.map((answer) => answer.body.session.id)).size).toBe(3);
  });

  test("of a workspace: each environment has its own", async () => {
    const create = (side: Side, metadata: object) =>
      server.request(
        "POST",
        "/workspaces",
        {
          sandbox_id: "box",
          external_id: "planted",
          tags: ["planted"],
          idempotency_key: "planted",
          ...metadata,
        },
        { key: side.key },
      );
    for (const side of [sibling, stranger]) {
      const { status, body } = await create(side, { metadata: { other: true } });
      expect([status, body.is_cached, body.workspace.environment_id]).toEqual([
        201,
        undefined,
        side.scope.environmentId,
      ]);
    }
    const own = await create(one, {});
    expect([own.status, own.body.is_cached, own.body.workspace.id]).toEqual([
      201,
      true,
      records.get("workspaceID"),
    ]);
  });

  test("a cancel's idempotency_key belongs to its run", async () => {
    const runs = await Promise.all(
      [one, sibling].map(async ({ key }) => {
        const { body } = await server.request("POST", "/sessions", { task_id: "hello" }, { key });
        return { key, id: body.run.id as string };
      }),
    );
    const operations = await Promise.all(
      runs.map(({ key, id }, index) =>
        server.request("POST", `/runs/${id}/cancel`, { idempotency_key: "k", reason: `${index}` }, { key }),
      ),
    );
    expect(operations.map(({ status, body }) => [status, body.operation.status])).toEqual([
      [200, "applied"],
      [200, "applied"],
    ]);
  });

  test("another environment's workspace cannot be attached, and is as absent as one that nobody has", async () => {
    const { workspace_id } = (await server.request("GET", `/sessions/${records.get("sessionID")}`)).body;
    const attach = async (id: string) => {
      const body = { task_id: "hello", workspace_id: id };
      const answer = await server.request("POST", "/sessions", body, { key: sibling.key });
      return [answer.status, answer.body];
    };
    expect(await attach(workspace_id)).toEqual(await attach(missing));
    expect(await attach(missing)).toEqual([404, { error: "workspace not found" }]);
  });

  test("a secret, a version and a deployment of the same name are each environment's own", async () => {
    await server.request("PUT", "/secrets/PLANTED", { value: "other" }, { key: sibling.key });
    const [own, other] = await Promise.all(
      [one, sibling].map(
        async ({ key }) => (await server.request("GET", "/secrets/PLANTED", undefined, { key })).body,
      ),
    );
    expect([own.environment_id, other.environment_id]).toEqual([
      one.scope.environmentId,
      sibling.scope.environmentId,
    ]);
    await server.request("DELETE", "/secrets/PLANTED", undefined, { key: sibling.key });
    expect((await server.request("GET", "/secrets/PLANTED")).status).toBe(200);
  });
});
