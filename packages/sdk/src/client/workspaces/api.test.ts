/** `client.workspaces`: requests, what becomes of the answers, what is refused. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { json, ScriptedServer, text } from "../../../test-support/scripted-server.ts";
import {
  wireChunk,
  wireExec,
  wireMaterialization,
  wirePty,
  wireWorkspace,
} from "../../../test-support/wire-workspaces.ts";
import { HelmrApiError, HelmrClient, InvalidResponseError, workspaces } from "../../index.ts";

const server = new ScriptedServer();
let client: HelmrClient;
beforeAll(async () => {
  await server.start();
});
afterAll(() => server.stop());
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  client = new HelmrClient({ url: server.url, apiKey: "k" });
  server.script();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});
const last = () => server.requests.at(-1);
const at = wireWorkspace.created_at;
const workspace = {
  id: "w1",
  projectId: "project",
  environmentId: "environment",
  deploymentSandboxId: "ds",
  sandboxId: "node",
  sandboxFingerprint: "f",
  state: "active",
  desiredState: "active",
  dirtyState: "clean",
  metadata: {},
  tags: [],
  lastActivityAt: at,
  createdAt: at,
  updatedAt: at,
};
const envelope = json({ workspace: wireWorkspace });

describe("workspaces", () => {
  it("create sends what is given and nothing else", async () => {
    const more = {
      external_id: "x",
      current_version_id: "v",
      last_materialization_id: "m",
      metadata: { a: 1 },
      tags: ["t"],
      auto_stop_at: at,
      auto_archive_at: at,
      auto_delete_at: at,
      archived_at: at,
      deleted_at: at,
    };
    server.script(json({ workspace: { ...wireWorkspace, ...more }, is_cached: true }, 201), envelope);
    const created = await client.workspaces.create({
      sandboxId: "node",
      deploymentId: "d",
      externalId: "x",
      metadata: { a: 1 },
      tags: ["t"],
      idempotencyKey: "k",
      idempotencyKeyTTL: "1h",
    });
    expect(created).toEqual({
      ...workspace,
      externalId: "x",
      currentVersionId: "v",
      lastMaterializationId: "m",
      metadata: { a: 1 },
      tags: ["t"],
      autoStopAt: at,
      autoArchiveAt: at,
      autoDeleteAt: at,
      archivedAt: at,
      deletedAt: at,
    });
    expect(Object.isFrozen(created)).toBe(true);
    expect(last()).toMatchObject({
      method: "POST",
      path: "/api/workspaces",
      body: {
        sandbox_id: "node",
        deployment_id: "d",
        external_id: "x",
        metadata: { a: 1 },
        tags: ["t"],
        idempotency_key: "k",
        idempotency_key_ttl: "1h",
      },
    });
    await client.workspaces.create({ sandboxId: "node", projectId: "p", environmentId: "e" });
    expect(last()).toMatchObject({
      path: "/api/projects/p/environments/e/workspaces",
      body: { sandbox_id: "node" },
    });
  });

  it("create reports that the same request is in flight, and does not repeat it", async () => {
    server.script(json({ error: "wait", code: "idempotency_pending" }, 202, { "retry-after": "1" }));
    await expect(client.workspaces.create({ sandboxId: "node" })).rejects.toMatchObject({
      name: "HelmrApiError",
      status: 202,
    });
    expect(server.requests).toHaveLength(1);
  });

  it("list filters", async () => {
    server.script(json({ workspaces: [wireWorkspace] }), json({ workspaces: [] }), json({}));
    const filters = { state: "archived", externalId: "x y", tag: "t", limit: 3 } as const;
    expect(await client.workspaces.list(filters)).toEqual([workspace]);
    expect(await client.workspaces.list()).toEqual([]);
    expect(server.lines).toEqual([
      "GET /api/workspaces?state=archived&external_id=x+y&tag=t&limit=3",
      "GET /api/workspaces",
    ]);
    await expect(client.workspaces.list()).rejects.toBeInstanceOf(InvalidResponseError);
  });

  it("take an id, a workspace or a handle, and a handle does the same", async () => {
    const stopped = { workspace_id: "w1", state: "stopping", materialization: wireMaterialization };
    const answers = [
      envelope,
      envelope,
      envelope,
      json(wireMaterialization, 201),
      json(wireMaterialization),
      json(stopped),
      envelope,
    ];
    const calls = async (
      api: {
        readonly [K in "retrieve" | "update" | "delete" | "materialize" | "connect" | "stop" | "fork"]: (
          options?: never,
        ) => Promise<unknown>;
      },
    ) => {
      server.script(...answers);
      const results = [
        await api.retrieve(),
        await api.update({ metadata: { a: 1 }, tags: [] } as never),
        await api.delete(),
        await api.materialize(),
        await api.connect(),
        await api.stop({ idempotencyKey: "k", idempotencyKeyTTL: "1h" } as never),
        await api.fork({ versionId: "v", externalId: "x", metadata: {}, tags: ["t"] } as never),
      ];
      return { results, requests: server.requests.map(({ method, path, body }) => ({ method, path, body })) };
    };
    const { workspaces: api } = client;
    const of = (reference: string | { id: string }) =>
      calls({
        retrieve: (options) => api.retrieve(reference, options),
        update: (options) => api.update(reference, options as never),
        delete: (options) => api.delete(reference, options),
        materialize: (options) => api.materialize(reference, options),
        connect: (options) => api.connect(reference, options),
        stop: (options) => api.stop(reference, options),
        fork: (options) => api.fork(reference, options),
      });
    const byId = await of("w1");
    const materialization = {
      id: "m1",
      projectId: "project",
      environmentId: "environment",
      workspaceId: "w1",
      deploymentSandboxId: "ds",
      state: "requested",
      claimAttempt: 0,
      fencingGeneration: 1,
      dirtyGeneration: 2,
      createdAt: at,
      updatedAt: at,
    };
    expect(byId.results).toEqual([
      workspace,
      workspace,
      workspace,
      materialization,
      materialization,
      { workspaceId: "w1", state: "stopping", materialization },
      workspace,
    ]);
    expect(byId.requests).toEqual([
      { method: "GET", path: "/api/workspaces/w1", body: undefined },
      { method: "PATCH", path: "/api/workspaces/w1", body: { metadata: { a: 1 }, tags: [] } },
      { method: "DELETE", path: "/api/workspaces/w1", body: undefined },
      { method: "POST", path: "/api/workspaces/w1/materialize", body: {} },
      { method: "POST", path: "/api/workspaces/w1/connect", body: {} },
      {
        method: "POST",
        path: "/api/workspaces/w1/stop",
        body: { idempotency_key: "k", idempotency_key_ttl: "1h" },
      },
      {
        method: "POST",
        path: "/api/workspaces/w1/fork",
        body: { version_id: "v", external_id: "x", metadata: {}, tags: ["t"] },
      },
    ]);
    expect(await of({ id: "w1" })).toEqual(byId);
    const handle = api.open({ id: "w1" });
    expect(handle.id).toBe("w1");
    expect(await of(handle)).toEqual(byId);
    expect(await calls(handle as never)).toEqual(byId);
  });

  it("stop of nothing has no materialization", async () => {
    server.script(json({ workspace_id: "w1", state: "no_active_materialization" }));
    expect(await client.workspaces.open("w1").stop()).toEqual({
      workspaceId: "w1",
      state: "no_active_materialization",
    });
    expect(last()?.body).toEqual({});
  });

  it("refuse what names no workspace, and ask nobody", async () => {
    for (const bad of ["", "..", undefined, {}]) {
      expect(() => client.workspaces.open(bad as string)).toThrow(TypeError);
      await expect(client.workspaces.retrieve(bad as string)).rejects.toThrow(TypeError);
    }
    expect(server.requests).toEqual([]);
  });

  it("report a refusal as it is", async () => {
    server.script(json({ error: "workspace not found" }, 404), text("", 401));
    await expect(client.workspaces.retrieve("w1")).rejects.toBeInstanceOf(HelmrApiError);
    await expect(client.workspaces.retrieve("w1")).rejects.toMatchObject({ name: "AuthError" });
  });

  it("at top level are those of a client made from the environment", async () => {
    vi.stubEnv("HELMR_API_URL", server.url);
    vi.stubEnv("HELMR_API_KEY", "hlmr_sk_env");
    server.script(envelope);
    await workspaces.retrieve("w1");
    expect(last()?.headers.authorization).toBe("Bearer hlmr_sk_env");
  });
});

describe("exec", () => {
  const handle = () => client.workspaces.open("w1");
  const exec = {
    id: "e1",
    workspaceId: "w1",
    command: ["ls", "-l"],
    cwd: "",
    filesystemMode: "write",
    state: "materializing",
    detached: false,
    stdoutCursor: 0,
    stderrCursor: 0,
    stdinCursor: 0,
    createdAt: at,
    updatedAt: at,
  };

  it("sends the command, and gives what it is and what can be done with it", async () => {
    const more = {
      materialization_id: "m1",
      env_shape: { A: "b" },
      process_id: "7",
      exit_code: 0,
      signal: "SIGTERM",
      error: null,
      stdin_closed_at: at,
      started_at: at,
      exited_at: at,
    };
    server.script(json({ exec: { ...wireExec, ...more } }, 201), json({ exec: wireExec }));
    const started = await handle().exec(["ls", "-l"], {
      cwd: "/a",
      env: { A: "b" },
      detached: true,
      idempotencyKey: "k",
    });
    expect(started).toMatchObject({
      ...exec,
      materializationId: "m1",
      env: { A: "b" },
      processId: "7",
      exitCode: 0,
      signal: "SIGTERM",
      error: null,
      stdinClosedAt: at,
      startedAt: at,
      exitedAt: at,
    });
    expect(last()).toMatchObject({
      method: "POST",
      path: "/api/workspaces/w1/execs",
      body: { command: ["ls", "-l"], cwd: "/a", env: { A: "b" }, detached: true, idempotency_key: "k" },
    });
    expect(await started.retrieve()).toEqual(exec);
    expect(last()?.path).toBe("/api/workspaces/w1/execs/e1");
  });

  it.each([undefined, "read", null])("refuses filesystem_mode %j", async (mode) => {
    server.script(
      json({ exec: { ...wireExec, filesystem_mode: mode } }, 201),
      json({ pty: { ...wirePty, filesystem_mode: mode } }, 201),
    );
    await expect(handle().exec(["ls"])).rejects.toBeInstanceOf(InvalidResponseError);
    await expect(handle().pty.create()).rejects.toBeInstanceOf(InvalidResponseError);
  });

  it("refuses a text as command, and asks nobody", async () => {
    await expect(handle().exec("ls -l" as never)).rejects.toThrow('["sh", "-c", "…"]');
    expect(server.requests).toEqual([]);
  });

  it("retrieve and list", async () => {
    server.script(json({ exec: wireExec }), json({ execs: [wireExec] }), json({ execs: {} }));
    expect(await handle().execs.retrieve("e1")).toMatchObject(exec);
    expect(await handle().execs.list({ state: "running", limit: 2 })).toEqual([exec]);
    expect(server.lines).toEqual([
      "GET /api/workspaces/w1/execs/e1",
      "GET /api/workspaces/w1/execs?state=running&limit=2",
    ]);
    await expect(handle().execs.list()).rejects.toBeInstanceOf(InvalidResponseError);
  });

  it.each(["exited", "terminated", "lost", "failed"])(
    "wait asks until it is %s, through failures that pass",
    async (state) => {
      const over = json({ exec: { ...wireExec, state, exit_code: 3 } });
      server.script(json({ exec: wireExec }, 201), json({ exec: wireExec }), text("busy", 503), over);
      const started = await handle().exec(["ls"]);
      expect(await started.wait({ pollIntervalMs: 1 })).toMatchObject({ state, exitCode: 3 });
      expect(server.requests).toHaveLength(4);
      server.script(json({ exec: wireExec }), over);
      expect(await started.wait()).toMatchObject({ state });
    },
  );

  it("wait gives up at a refusal and at an abort", async () => {
    server.script(json({ exec: wireExec }, 201), json({ error: "gone" }, 404), json({ exec: wireExec }));
    const started = await handle().exec(["ls"]);
    await expect(started.wait()).rejects.toMatchObject({ status: 404 });
    const controller = new AbortController();
    const waiting = started.wait({ pollIntervalMs: 60_000, signal: controller.signal });
    await vi.waitUntil(() => server.requests.length === 3);
    controller.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow("enough");
  });

  it("kill", async () => {
    const killed = json({ exec: wireExec });
    server.script(killed, killed, killed);
    const started = await handle().execs.retrieve("e1");
    await started.kill();
    expect(last()).toMatchObject({ path: "/api/workspaces/w1/execs/e1/kill", body: {} });
    expect(await started.kill("SIGINT")).toEqual(exec);
    expect(last()?.body).toEqual({ signal: "SIGINT" });
  });

  it("stdout and stderr are two streams", async () => {
    server.script(json({ exec: wireExec }), json({ chunks: [] }), json({ chunks: [wireChunk(0, "x")] }));
    const started = await handle().execs.retrieve("e1");
    expect(await started.stdout.list()).toEqual([]);
    expect(await started.stderr.list()).toMatchObject([{ offsetStart: 0, offsetEnd: 1 }]);
    expect(server.lines.slice(1)).toEqual([
      "GET /api/workspaces/w1/execs/e1/stdout",
      "GET /api/workspaces/w1/execs/e1/stderr",
    ]);
  });
});

describe("pty", () => {
  const handle = () => client.workspaces.open("w1").pty;

  it("create, retrieve, list, input, resize, close", async () => {
    const more = {
      materialization_id: "m1",
      process_id: "7",
      error: { message: "x" },
      started_at: at,
      closed_at: at,
    };
    server.script(
      json({ pty: { ...wirePty, ...more } }, 201),
      json({ pty: wirePty }),
      json({ ptys: [wirePty] }),
      json(wireChunk(0, "a", "input")),
      json({ pty: { ...wirePty, cols: 100 } }),
      json({ pty: { ...wirePty, state: "closing" } }),
      json({ chunks: [] }),
    );
    const pty = await handle().create({ cwd: "/a", cols: 100, rows: 30, idempotencyKey: "k" });
    expect(pty).toMatchObject({
      id: "p1",
      workspaceId: "w1",
      materializationId: "m1",
      cwd: "",
      cols: 80,
      rows: 24,
      filesystemMode: "write",
      state: "creating",
      processId: "7",
      outputCursor: 0,
      inputCursor: 0,
      error: { message: "x" },
      createdAt: at,
      startedAt: at,
      closedAt: at,
      updatedAt: at,
    });
    expect(last()?.body).toEqual({ cwd: "/a", cols: 100, rows: 30, idempotency_key: "k" });
    await handle().retrieve("p1");
    expect(await handle().list({ state: "open", limit: 1 })).toMatchObject([{ id: "p1" }]);
    expect(await pty.input("a", { offset: 0 })).toMatchObject({ stream: "input", offsetEnd: 1 });
    expect(last()?.body).toEqual({ offset: 0, data: "YQ==" });
    expect(await pty.resize(100, 30)).toMatchObject({ cols: 100 });
    expect(last()?.body).toEqual({ cols: 100, rows: 30 });
    expect(await pty.close()).toMatchObject({ state: "closing" });
    expect(await pty.output.list()).toEqual([]);
    expect(server.lines).toEqual([
      "POST /api/workspaces/w1/pty",
      "GET /api/workspaces/w1/pty/p1",
      "GET /api/workspaces/w1/pty?state=open&limit=1",
      "POST /api/workspaces/w1/pty/p1/input",
      "POST /api/workspaces/w1/pty/p1/resize",
      "POST /api/workspaces/w1/pty/p1/close",
      "GET /api/workspaces/w1/pty/p1/output",
    ]);
  });

  it("waitUntilOpen asks while it is being created", async () => {
    server.script(
      json({ pty: wirePty }),
      json({ pty: wirePty }),
      text("busy", 503),
      json({ pty: { ...wirePty, state: "open" } }),
    );
    const pty = await handle().retrieve("p1");
    expect(await pty.waitUntilOpen()).toMatchObject({ state: "open" });
  });
});
