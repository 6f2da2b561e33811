/** `helmr workspace`: lifecycle, files and versions: what is sent, what is printed, how it ends. */
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { extract, pack } from "tar-stream";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { type Answer, type Asked, type ScriptedServer, scriptedServer } from "./support/scripted-server.ts";
import { ids, run, session } from "./support/wire.ts";
import { workspace, workspaceId } from "./support/workspace-double.ts";

const at = "2026-06-06T12:00:00.000Z";
const v1 = "01990000-0000-7000-8000-000000000021";
const v2 = "01990000-0000-7000-8000-000000000022";
const path = `/workspaces/${workspaceId}`;
const version = (id = v2, more: object = {}) => ({
  id,
  workspace_id: workspaceId,
  kind: "user",
  state: "ready",
  content_digest: `sha256:${"0".repeat(64)}`,
  size_bytes: 5,
  artifact_encoding: "helmr.tree.v1",
  artifact_entry_count: 2,
  created_at: at,
  ...more,
});
const materialization = (state: string) => ({
  id: "01990000-0000-7000-8000-000000000031",
  project_id: ids.project,
  environment_id: ids.environment,
  workspace_id: workspaceId,
  deployment_sandbox_id: ids.deployment,
  state,
  claim_attempt: 1,
  fencing_generation: 1,
  dirty_generation: 0,
  created_at: at,
  updated_at: at,
});
const entry = (name: string, more: object = {}) => ({
  path: name,
  name,
  kind: "file",
  size_bytes: 3,
  mode: 0o644,
  mod_time: at,
  ...more,
});
const current = { json: { workspace: workspace({ current_version_id: v2 }) } };
const bodyOf = (asked: Asked | undefined) => JSON.parse(asked?.body.toString() || "null") as unknown;
const bytes =
  (data: Uint8Array): Answer =>
  (_, response) =>
    void response.writeHead(200, { "content-type": "application/octet-stream" }).end(data);
/** One after the other; the last one again and again. */
const inTurn = (...answers: object[]): Answer => {
  let index = 0;
  return (_, response) => {
    const json = answers[Math.min(index, answers.length - 1)];
    index += 1;
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(json));
  };
};

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-cli-files-"));
});
afterEach(() => rm(dir, { recursive: true, force: true }));
const of =
  (server: ScriptedServer) =>
  (...words: string[]) =>
    helmr(["workspace", ...words], { url: server.url, cwd: dir });

describe("lifecycle", () => {
  it("create, update and fork send what is given", async () => {
    await using server = await scriptedServer({
      "POST /workspaces": { status: 201, json: { workspace: workspace() } },
      [`PATCH ${path}`]: { json: { workspace: workspace() } },
      [`POST ${path}/fork`]: { status: 201, json: { workspace: workspace() } },
    });
    const call = of(server);
    const labels = ["--tag", "a", "--tag", "b", "--metadata", '{"m":1}'];
    const keys = ["--idempotency-key", "k", "--idempotency-key-ttl", "1h"];
    const given = [
      "create",
      "node",
      "--external-id",
      "x 1",
      "--deployment",
      ids.deployment,
      ...labels,
      ...keys,
    ];
    expect((await call(...given)).out).toContain(`workspace\t${workspaceId}\nexternal id\tnotebook-7\n`);
    expect(bodyOf(server.asked[0])).toEqual({
      sandbox_id: "node",
      deployment_id: ids.deployment,
      external_id: "x 1",
      tags: ["a", "b"],
      metadata: { m: 1 },
      idempotency_key: "k",
      idempotency_key_ttl: "1h",
    });
    await call("update", workspaceId, ...labels);
    expect(bodyOf(server.asked[1])).toEqual({ tags: ["a", "b"], metadata: { m: 1 } });
    const forked = await call("fork", workspaceId, "--version", v1, "--external-id", "y", "--json");
    expect(bodyOf(server.asked[2])).toEqual({ version_id: v1, external_id: "y" });
    expect(JSON.parse(forked.out)).toEqual({ workspace: workspace() });
  });

  it("list filters, get finds by external id, delete asks first", async () => {
    await using server = await scriptedServer({
      "GET /workspaces": (asked, response) => {
        const isThere = asked.query.get("external_id") !== "other";
        const workspaces = isThere ? [workspace({ state: "archived", id: v1 }), workspace()] : [];
        response.writeHead(200).end(JSON.stringify({ workspaces }));
      },
      [`GET ${path}`]: current,
      [`DELETE ${path}`]: { json: { workspace: workspace({ state: "archived", auto_delete_at: at }) } },
    });
    const call = of(server);
    const filters = ["--state", "active", "--tag", "t", "--external-id", "x", "--limit", "2"];
    expect((await call("list", ...filters)).out.split("\n")[1]).toBe(
      `${workspaceId}\tnotebook-7\tnode\tactive\tclean\t${at}`,
    );
    expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({
      state: "active",
      tag: "t",
      external_id: "x",
      limit: "2",
    });
    expect(JSON.parse((await call("get", "notebook-7", "--json")).out)).toEqual(current.json);
    expect(await call("get", "other")).toMatchObject({ exitCode: 3, out: "" });
    expect((await call("delete", workspaceId)).exitCode).toBe(2);
    expect((await call("delete", workspaceId, "--yes")).err).toContain(`its files stay until ${at}`);
  });

  it("materialize and stop wait when told so, and say what went wrong", async () => {
    const stop = (state: string) => ({ workspace_id: workspaceId, state });
    await using server = await scriptedServer({
      [`POST ${path}/materialize`]: inTurn(materialization("requested"), materialization("running")),
      [`POST ${path}/stop`]: inTurn(stop("stopping"), stop("no_active_materialization")),
    });
    const call = of(server);
    const up = await call("materialize", workspaceId, "--wait", "--json");
    expect(JSON.parse(up.out)).toEqual(materialization("running"));
    expect((await call("stop", workspaceId, "--wait")).err).toContain("there is no live copy");
    expect(server.asked.map((one) => one.path.replace(path, ""))).toEqual([
      "/materialize",
      "/materialize",
      "/stop",
      "/stop",
    ]);
    await using failing = await scriptedServer({
      [`POST ${path}/materialize`]: inTurn(materialization("requested"), materialization("failed")),
      [`POST ${path}/stop`]: inTurn(stop("stopping")),
    });
    expect(await of(failing)("materialize", workspaceId, "--wait")).toMatchObject({ exitCode: 1 });
    expect(await of(failing)("stop", workspaceId, "--wait", "--timeout", "100ms")).toMatchObject({
      exitCode: 124,
    });
  });

  it("a session starts in a workspace that is named by its external id", async () => {
    await using server = await scriptedServer({
      "GET /workspaces": { json: { workspaces: [workspace()] } },
      "POST /sessions": { status: 201, json: { session: session(), run: run() } },
    });
    const start = ["session", "start", "hello", "--workspace", "notebook-7"];
    expect((await helmr(start, { url: server.url })).exitCode).toBe(0);
    expect(bodyOf(server.asked[1])).toMatchObject({ task_id: "hello", workspace_id: workspaceId });
    expect((await helmr([...start, "--workspace-id", workspaceId], { url: server.url })).exitCode).toBe(2);
  });

  it("a refusal says what to do", async () => {
    const refusal = { error: "another command is active", code: "workspace_writer_active" };
    await using server = await scriptedServer({ [`POST ${path}/execs`]: { status: 409, json: refusal } });
    const result = await of(server)("exec", workspaceId, "--", "ls");
    expect(result.exitCode).toBe(8);
    expect(result.err).toContain("helmr workspace exec list");
  });
});

describe("files", () => {
  it("ls reads all pages", async () => {
    const link = entry("l", { kind: "symlink", mode: 0o777, link_target: "a\x1b[2J" });
    await using server = await scriptedServer({
      [`GET ${path}/files`]: inTurn(
        { path: "", entries: [entry("a"), entry("d", { kind: "directory", mode: 0o755 })], next_cursor: "c" },
        { path: "", entries: [link] },
      ),
    });
    const result = await of(server)("files", "ls", workspaceId, "src", "--version", v1);
    expect(result.out).toBe(
      `-rw-r--r--\t3\t${at}\ta\ndrwxr-xr-x\t\t${at}\td/\nlrwxrwxrwx\t\t${at}\tl -> a\n`,
    );
    expect(server.asked.map(({ query }) => Object.fromEntries(query))).toEqual([
      { path: "src", source: "version", version_id: v1, limit: "500" },
      { path: "src", source: "version", version_id: v1, limit: "500", cursor: "c" },
    ]);
  });

  it("cat is byte for byte", async () => {
    const data = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 256));
    await using server = await scriptedServer({ [`GET ${path}/files/content`]: bytes(data) });
    const result = await of(server)("files", "cat", workspaceId, "a b", "--live");
    expect(result.stdout.equals(data)).toBe(true);
    expect(Object.fromEntries(server.asked[0]?.query ?? [])).toEqual({ path: "a b", source: "live" });
    const json = await of(server)("files", "cat", workspaceId, "a b", "--json");
    expect(JSON.parse(json.out)).toEqual({ path: "a b", content_base64: data.toString("base64") });
    expect(await of(server)("files", "cat", workspaceId, "a", "--live", "--version", v1)).toMatchObject({
      exitCode: 2,
    });
  });

  it("cp out: a file to a name or into a folder, with its mode", async () => {
    await using server = await scriptedServer({
      [`GET ${path}/files/stat`]: { json: { entry: entry("a", { mode: 0o755 }) } },
      [`GET ${path}/files/content`]: bytes(Buffer.from([0, 255])),
    });
    const call = of(server);
    await mkdir(join(dir, "folder"));
    for (const to of ["b", "folder"])
      expect((await call("files", "cp", `${workspaceId}:x/a`, to)).exitCode).toBe(0);
    for (const file of ["b", "folder/a"]) {
      expect(await readFile(join(dir, file))).toEqual(Buffer.from([0, 255]));
      expect((await stat(join(dir, file))).mode & 0o777).toBe(0o755);
    }
  });

  it("cp out: a folder's contents, from the archive of the current version", async () => {
    const archive = pack();
    archive.entry({ name: "src/a" }, "a");
    archive.entry({ name: "b" }, "b");
    archive.finalize();
    const parts: Uint8Array[] = [];
    for await (const part of archive) parts.push(part as Uint8Array);
    await using server = await scriptedServer({
      [`GET ${path}`]: current,
      [`GET ${path}/files/stat`]: { json: { entry: entry("src", { kind: "directory" }) } },
      [`GET ${path}/versions/${v2}/archive`]: bytes(zstdCompressSync(Buffer.concat(parts))),
    });
    const call = of(server);
    expect(JSON.parse((await call("files", "cp", `${workspaceId}:src`, "out/deep", "--json")).out)).toEqual({
      files: 1,
    });
    expect(await readFile(join(dir, "out/deep/a"), "utf8")).toBe("a");
    await call("files", "cp", `${workspaceId}:`, "all");
    expect(await readFile(join(dir, "all/src/a"), "utf8")).toBe("a");
    expect(await call("files", "cp", `${workspaceId}:src`, "x", "--live")).toMatchObject({ exitCode: 2 });
  });

  it("cp in: a file by its content, a folder as a tar", async () => {
    const made: Answer = { status: 201, json: { version: version() } };
    await using server = await scriptedServer({
      [`GET ${path}/files/stat`]: (asked, response) => {
        const isFolder = asked.query.get("path") === "there";
        const json = isFolder ? { entry: entry("there", { kind: "directory" }) } : { error: "no such file" };
        response.writeHead(isFolder ? 200 : 404).end(JSON.stringify(json));
      },
      [`PUT ${path}/files/content`]: made,
      [`POST ${path}/versions/import`]: made,
    });
    const call = of(server);
    await mkdir(join(dir, "folder", "sub"), { recursive: true });
    await writeFile(join(dir, "folder", "sub", "a"), Buffer.from([0, 255]), { mode: 0o755 });
    await writeFile(join(dir, "empty"), "");
    const copies = [
      ["folder/sub/a", "b", "b"],
      ["folder/sub/a", "there", "there/a"],
      ["folder/sub/a", "new/", "new/a"],
      ["empty", "", "empty"],
    ] as const;
    for (const [from, to, stored] of copies) {
      const result = await call("files", "cp", from, `${workspaceId}:${to}`, "--message", "m");
      expect(result.err).toContain(`as version ${v2}`);
      const put = server.asked.at(-1);
      expect([put?.method, put?.query.get("path"), put?.query.get("message")]).toEqual(["PUT", stored, "m"]);
      expect(put?.query.get("mode")).toBe(from === "empty" ? "644" : "755");
      expect(put?.body).toEqual(from === "empty" ? Buffer.alloc(0) : Buffer.from([0, 255]));
    }
    const copied = await call("files", "cp", "folder", `${workspaceId}:dest`, "--replace", "--json");
    expect(JSON.parse(copied.out)).toEqual({ version: version() });
    const posted = server.asked.at(-1);
    expect(posted?.query.get("mode")).toBe("replace");
    expect(await namesOf(posted?.body ?? Buffer.alloc(0))).toEqual(["dest/sub/", "dest/sub/a"]);
    for (const [from, to] of [
      ["missing", `${workspaceId}:x`],
      ["folder", "elsewhere"],
      [`${workspaceId}:a`, `${workspaceId}:b`],
    ] as const)
      expect(await call("files", "cp", from, to)).toMatchObject({ exitCode: 2 });
  });
});

async function namesOf(tar: Buffer): Promise<string[]> {
  const archive = extract();
  archive.end(tar);
  const names: string[] = [];
  for await (const one of archive) {
    names.push(one.header.name);
    one.resume();
  }
  return names;
}

describe("versions", () => {
  it("list, get, save, restore", async () => {
    await using server = await scriptedServer({
      [`GET ${path}/versions`]: { json: { versions: [version(), version(v1, { message: "m" })] } },
      [`GET ${path}/versions/${v1}`]: { json: { version: version(v1) } },
      [`POST ${path}/versions`]: { status: 201, json: { version: version() } },
      [`POST ${path}/versions/${v1}/restore`]: { status: 201, json: { version: version() } },
    });
    const call = of(server);
    const listed = await call("versions", "list", workspaceId, "--kind", "user", "--limit", "2");
    expect(listed.out).toBe(`${v2}\tuser\t5\t2\t${at}\t\n${v1}\tuser\t5\t2\t${at}\tm\n`);
    expect((await call("versions", "get", workspaceId, v1)).out).toContain(`version\t${v1}\n`);
    await call("versions", "save", workspaceId, "-m", "before");
    expect(bodyOf(server.asked.at(-1))).toEqual({ message: "before", idempotency_key: expect.any(String) });
    for (const words of [["restore"], ["versions", "restore"]]) {
      const result = await call(...words, workspaceId, v1, "--message", "back");
      expect(result.err).toContain(`as version ${v2}`);
      expect(bodyOf(server.asked.at(-1))).toEqual({ message: "back" });
    }
  });

  it("diff of the current version, of another one, of a file", async () => {
    const change = (name: string, kind: string, more: object = {}) => ({
      path: name,
      change: kind,
      kind: "file",
      size_bytes: 1,
      ...more,
    });
    const changes = [change("a", "added"), change("d", "removed", { kind: "directory" })];
    const text = "--- a/n\n+++ b/n\n@@ -1 +1 @@\n-old\n+new\n";
    await using server = await scriptedServer({
      [`GET ${path}`]: current,
      [`GET ${path}/versions/${v2}/diff`]: inTurn(
        { base_version_id: v1, version_id: v2, changes, next_cursor: "c" },
        { base_version_id: v1, version_id: v2, changes: [change("m", "metadata")] },
      ),
      [`GET ${path}/versions/${v1}/diff`]: { json: { version_id: v1, changes } },
      [`GET ${path}/versions/${v2}/diff/content`]: { json: { path: "n", status: "text", diff: text } },
      [`GET ${path}/versions/${v1}/diff/content`]: { json: { path: "a", status: "binary" } },
    });
    const call = of(server);
    expect((await call("files", "diff", workspaceId)).out).toBe("A\ta\nD\td/\nm\tm\n");
    expect((await call("versions", "diff", workspaceId, v1, "--base", v2)).out).toBe("A\ta\nD\td/\n");
    expect(server.asked.at(-1)?.query.get("base_version_id")).toBe(v2);
    expect((await call("files", "diff", workspaceId, "n")).out).toBe(text);
    expect(server.asked.at(-1)?.query.get("path")).toBe("n");
    const patch = await call("versions", "diff", workspaceId, v1, "--patch");
    expect(patch.out).toBe("A\ta\nD\td/\n");
    expect(patch.err).toContain("a is binary and differs");
    const json = await call("versions", "diff", workspaceId, v1, "--json");
    expect(JSON.parse(json.out)).toEqual({ version_id: v1, changes });
  });

  it("of a workspace that was never saved there are none", async () => {
    await using server = await scriptedServer({ [`GET ${path}`]: { json: { workspace: workspace() } } });
    const result = await of(server)("files", "diff", workspaceId);
    expect(result.exitCode).toBe(3);
    expect(result.err).toContain("helmr workspace versions save");
  });
});
