/** Commands that only people may run, against a scripted server: what they send, and what they refuse before they do. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { helmr, type Result } from "./support/helmr.ts";
import { type Answer, type ScriptedServer, scriptedServer } from "./support/scripted-server.ts";
import { ids } from "./support/wire.ts";

const at = "2026-06-06T12:00:00.000000Z";
let config: string;
beforeEach(async () => {
  config = await mkdtemp(join(tmpdir(), "helmr-identity-test-"));
});
afterEach(() => rm(config, { recursive: true, force: true }));

/** Runs with a login for the server, and `web` and `staging` saved. */
async function signedIn(
  server: ScriptedServer,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Result> {
  const host = { session_token: "t".repeat(43), project: "web", environment: "staging" };
  const text = JSON.stringify({ version: 1, default_url: server.url, hosts: { [server.url]: host } });
  await mkdir(join(config, "helmr"), { recursive: true });
  await writeFile(join(config, "helmr", "credentials.json"), text, { mode: 0o600 });
  return await helmr(args, { env: { XDG_CONFIG_HOME: config, ...env } });
}
const bodies = (server: ScriptedServer, method: string) =>
  server.asked.filter((asked) => asked.method === method).map(({ body }) => JSON.parse(String(body)));
const asked = (server: ScriptedServer) => server.asked.map(({ method, path }) => `${method} ${path}`);

const environment = {
  id: ids.environment,
  project_id: ids.project,
  slug: "preview",
  name: "Preview",
  color_hex: "#2563EB",
  is_default: false,
  created_at: at,
  updated_at: at,
};
const project = {
  id: ids.project,
  slug: "web",
  name: "Web",
  is_default: false,
  created_at: at,
  updated_at: at,
  environments: [environment],
};
const counts = (fields: Record<string, number> = {}) => ({
  environments: 1,
  sessions: 2,
  runs: 1,
  live_runs: 0,
  workspaces: 0,
  deployments: 0,
  live_deployments: 0,
  secrets: 0,
  api_keys: 1,
  ...fields,
});
const projectPath = `/projects/${ids.project}`;
const environmentPath = `${projectPath}/environments/${ids.environment}`;
const withProjects = (more: Record<string, Answer> = {}): Record<string, Answer> => ({
  "GET /projects": { json: { projects: [project] } },
  ...more,
});

describe("project and env", () => {
  it("change what was named and send the rest as it is", async () => {
    await using server = await scriptedServer(
      withProjects({
        [`PATCH ${projectPath}`]: { json: project },
        [`PATCH ${environmentPath}`]: { json: environment },
      }),
    );
    expect((await signedIn(server, ["project", "update", "WEB", "--name", "New"])).exitCode).toBe(0);
    const given = ["env", "update", "preview", "--color", "#000000", "--json"];
    expect((await signedIn(server, given)).exitCode).toBe(0);
    expect(bodies(server, "PATCH")).toEqual([
      { slug: "web", name: "New" },
      { slug: "preview", name: "Preview", color_hex: "#000000" },
    ]);
  });

  it("delete says what goes with it and asks; without a terminal nobody is asked and nothing is deleted", async () => {
    const routes = withProjects({
      [`GET ${environmentPath}/deletion`]: { json: { counts: counts() } },
      [`DELETE ${environmentPath}`]: { status: 204 },
    });
    await using server = await scriptedServer(routes);
    const asking = await signedIn(server, ["env", "delete", "preview"]);
    expect([asking.exitCode, asking.err]).toEqual([
      2,
      expect.stringMatching(/deleted with 2 sessions, 1 run, 1 API key\n[\s\S]*--yes/),
    ]);
    expect(asked(server)).not.toContain(`DELETE ${environmentPath}`);
    const done = await signedIn(server, ["env", "delete", "preview", "--yes", "--json"]);
    expect(JSON.parse(done.out)).toEqual({ id: ids.environment, deleted: true, counts: counts() });
    expect(server.asked.at(-1)?.query.has("force")).toBe(false);
  });

  it("delete refuses live work unless it is forced", async () => {
    await using server = await scriptedServer(
      withProjects({
        [`GET ${projectPath}/deletion`]: { json: { counts: counts({ live_runs: 1 }) } },
        [`DELETE ${projectPath}`]: { status: 204 },
      }),
    );
    const refused = await signedIn(server, ["project", "delete", "web", "--yes"]);
    expect([refused.exitCode, refused.err]).toEqual([8, expect.stringMatching(/1 live run[\s\S]*--force/)]);
    expect(asked(server)).not.toContain(`DELETE ${projectPath}`);
    expect((await signedIn(server, ["project", "delete", "web", "--yes", "--force"])).exitCode).toBe(0);
    expect(server.asked.at(-1)?.query.get("force")).toBe("true");
  });
});

const key = (fields: Record<string, unknown> = {}) => ({
  id: ids.task,
  name: "ci",
  key_prefix: "hlmr_sk_AbCdEfGh",
  project_id: ids.project,
  environment_id: ids.environment,
  permissions: [{ scopes: ["runs:read"] }],
  status: "active",
  created_at: at,
  last_used_at: null,
  expires_at: null,
  revoked_at: null,
  ...fields,
});
const keysPath = "/projects/web/environments/staging/api-keys";

describe("api-key", () => {
  it("create prints the key once, alone with --quiet", async () => {
    const raw = `hlmr_sk_${"A".repeat(43)}`;
    await using server = await scriptedServer({
      [`POST ${keysPath}`]: { status: 201, json: key({ raw_key: raw }) },
    });
    const scopes = ["--scope", "runs:read", "--scope", "runs:create"];
    const loud = await signedIn(server, ["api-key", "create", "ci", ...scopes]);
    expect([loud.out, loud.err]).toEqual([`${raw}\n`, expect.stringMatching(/not shown again/)]);
    const quiet = await signedIn(server, [
      "api-key",
      "create",
      "ci",
      ...scopes,
      "--quiet",
      "--expires-in-days",
      "30",
    ]);
    expect([quiet.out, quiet.err]).toEqual([`${raw}\n`, ""]);
    const permissions = [{ scopes: ["runs:read", "runs:create"] }];
    expect(bodies(server, "POST")).toEqual([
      { name: "ci", permissions },
      { name: "ci", permissions, expires_in_days: 30 },
    ]);
  });

  it.each([[[]], [["--expires-in-days", "31", "--scope", "runs:read"]]])(
    "create with %j is refused before anything is sent",
    async (given) => {
      await using server = await scriptedServer({});
      expect((await signedIn(server, ["api-key", "create", "ci", ...given])).exitCode).toBe(2);
      expect(server.asked).toEqual([]);
    },
  );

  it("revoke takes a name only where one active key has it, else an id or the first characters", async () => {
    const other = ids.run;
    const items = [
      key(),
      key({ id: ids.session, key_prefix: "hlmr_sk_Old00000", status: "revoked", revoked_at: at }),
      key({ id: other, name: "twice", key_prefix: "hlmr_sk_Two00000" }),
      key({ id: ids.deployment, name: "twice", key_prefix: "hlmr_sk_Two11111" }),
    ];
    await using server = await scriptedServer({
      [`GET ${keysPath}`]: { json: { items, has_more: false } },
      [`DELETE ${keysPath}/${ids.task}`]: { status: 204 },
      [`DELETE ${keysPath}/${other}`]: { status: 204 },
    });
    expect((await signedIn(server, ["api-key", "revoke", "ci"])).exitCode).toBe(0);
    expect(asked(server).at(-1)).toBe(`DELETE ${keysPath}/${ids.task}`);
    expect((await signedIn(server, ["api-key", "revoke", "twice"])).exitCode).toBe(2);
    expect((await signedIn(server, ["api-key", "revoke", "hlmr_sk_Two00000"])).exitCode).toBe(0);
    expect((await signedIn(server, ["api-key", "revoke", other])).exitCode).toBe(0);
    expect((await signedIn(server, ["api-key", "revoke", "unknown"])).exitCode).toBe(3);
  });
});

describe("member", () => {
  const member = {
    user_id: ids.session,
    display_name: "Ada",
    email: "ada@example.com",
    role: "viewer",
    status: "active",
    created_at: at,
    updated_at: at,
  };
  const routes = (more: Record<string, Answer> = {}): Record<string, Answer> => ({
    "GET /members": { json: { members: [member] } },
    ...more,
  });

  it("update sends the role that was seen, or the one that is expected; a conflict is said", async () => {
    await using server = await scriptedServer(
      routes({
        [`PATCH /members/${ids.session}`]: { status: 409, json: { error: "the role is admin by now" } },
      }),
    );
    const given = ["member", "update", "ADA@example.com", "--role", "admin"];
    const conflict = await signedIn(server, given);
    expect([conflict.exitCode, conflict.err]).toEqual([8, expect.stringMatching(/is admin by now/)]);
    await signedIn(server, [...given, "--expected-role", "developer"]);
    expect(bodies(server, "PATCH")).toEqual([
      { role: "admin", expected_role: "viewer" },
      { role: "admin", expected_role: "developer" },
    ]);
    expect((await signedIn(server, ["member", "update", "ada@example.com", "--role", "king"])).exitCode).toBe(
      2,
    );
    expect((await signedIn(server, ["member", "update", "ada@example.com"])).exitCode).toBe(2);
  });

  it("remove is asked about", async () => {
    await using server = await scriptedServer(
      routes({ [`DELETE /members/${ids.session}`]: { status: 204 } }),
    );
    expect((await signedIn(server, ["member", "remove", "ada@example.com"])).exitCode).toBe(2);
    expect(asked(server)).toEqual(["GET /members"]);
    expect((await signedIn(server, ["member", "remove", "ada@example.com", "--yes"])).exitCode).toBe(0);
  });
});

describe("org create", () => {
  const me = (isFirst: boolean): Answer => ({
    json: {
      user_id: "u",
      display_name: "Ada",
      profile_image_url: "",
      permissions: [],
      organization_required: true,
      project_required: false,
      access_required: false,
      setup_token_required: isFirst,
    },
  });
  const created: Answer = {
    status: 201,
    json: { id: ids.project, slug: "acme", name: "acme", created_at: at },
  };

  it("sends the setup token from a file or the environment, never shows it, and says when it is missing", async () => {
    await using server = await scriptedServer({ "GET /me": me(true), "POST /organizations": created });
    const missing = await signedIn(server, ["org", "create", "acme"]);
    expect([missing.exitCode, missing.err]).toEqual([2, expect.stringMatching(/HELMR_SETUP_TOKEN/)]);
    const file = join(config, "token");
    await writeFile(file, "from-file\n");
    const fromFile = await signedIn(server, ["org", "create", "acme", "--setup-token-file", file]);
    const fromEnv = await signedIn(server, ["org", "create", "acme", "--name", "Acme"], {
      HELMR_SETUP_TOKEN: "from-env",
    });
    expect(bodies(server, "POST")).toEqual([
      { slug: "acme", name: "acme", setup_token: "from-file" },
      { slug: "acme", name: "Acme", setup_token: "from-env" },
    ]);
    for (const { out, err } of [fromFile, fromEnv]) expect(`${out}${err}`).not.toMatch(/from-(file|env)/);
  });

  it("sends none where none is asked for", async () => {
    await using server = await scriptedServer({ "GET /me": me(false), "POST /organizations": created });
    expect((await signedIn(server, ["org", "create", "acme"])).exitCode).toBe(0);
    expect(bodies(server, "POST")).toEqual([{ slug: "acme", name: "acme" }]);
  });
});

it("audit list passes its filters under the API's names, and says how to go on", async () => {
  const record = {
    id: ids.run,
    at,
    actor: { kind: "api_key", id: ids.task, label: "ci\u001b[2J" },
    action: "run.cancel",
    resource_kind: "run",
    resource_id: "r",
    address: "127.0.0.1",
    attributes: { reason: "x" },
  };
  await using server = await scriptedServer({
    "GET /audit-log": { json: { records: [record], has_more: true } },
  });
  const filters = ["--action", "run.cancel", "--actor", ids.task, "--resource", "r", "--before", ids.run];
  const result = await signedIn(server, ["audit", "list", ...filters, "--limit", "1"]);
  expect(result.out).toBe(`${at}\tci (api key)\trun.cancel\tr\t127.0.0.1\treason=x\n`);
  expect(result.err).toContain(`--before ${ids.run}`);
  expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({
    limit: "1",
    action: "run.cancel",
    actor_id: ids.task,
    resource_id: "r",
    before: ids.run,
  });
});
