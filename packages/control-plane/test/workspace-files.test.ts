/** Files of saved versions over HTTP: read, compared, downloaded, uploaded, and what is refused. */
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { gzipSync, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { removeDiscardedArtifacts } from "@helmr/store";
import { seedTask, seedVersion, testTree } from "@helmr/store/testing";
import { sql } from "kysely";
import { extract, pack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LiveCopy, type LiveWorker, registerLiveWorker } from "./support/live-worker.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer({ workspaces: { maxArchiveBytes: 300_000, maxArchiveEntries: 50 } });
  await seedTask(server.db, server.scope);
});
afterAll(() => server.stop());

const missing = "019a0000-0000-7000-8000-000000000000";
const newWorkspace = async (): Promise<string> =>
  (await server.request("POST", "/workspaces", { sandbox_id: "box" })).body.workspace.id;

interface TarEntry {
  readonly name: string;
  readonly content?: string | Buffer;
  readonly type?: "file" | "directory" | "symlink" | "fifo";
  readonly linkname?: string;
  readonly mode?: number;
  readonly mtime?: Date;
}

async function tarOf(entries: readonly TarEntry[]): Promise<Buffer> {
  const tar = pack();
  for (const { content = "", ...header } of entries) tar.entry(header, content);
  tar.finalize();
  return await buffer(tar);
}

const raw = (bytes: Buffer | string) => new Uint8Array(Buffer.from(bytes));
const importTar = async (id: string, entries: readonly TarEntry[] | Buffer, query = "") =>
  await server.request("POST", `/workspaces/${id}/versions/import${query}`, undefined, {
    raw: raw(Buffer.isBuffer(entries) ? entries : await tarOf(entries as TarEntry[])),
  });
const put = (id: string, path: string, content: string | Buffer, query = "") =>
  server.request(
    "PUT",
    `/workspaces/${id}/files/content?path=${encodeURIComponent(path)}${query}`,
    undefined,
    {
      raw: raw(content),
    },
  );
const files = (id: string, what: string, query: Record<string, string> = {}) =>
  server.request("GET", `/workspaces/${id}/files${what}?${new URLSearchParams(query)}`);

/** The bytes as they came. */
async function content(id: string, path: string, headers: Record<string, string> = {}, query = "") {
  const url = `${server.url}/api/workspaces/${id}/files/content?path=${encodeURIComponent(path)}${query}`;
  const response = await fetch(url, { headers: { authorization: `Bearer ${server.key}`, ...headers } });
  return {
    status: response.status,
    headers: response.headers,
    bytes: Buffer.from(await response.arrayBuffer()),
  };
}

const expectRefusal = (answer: { status: number; body: unknown }, status: number, code?: string) =>
  expect([answer.status, answer.body]).toEqual([
    status,
    { error: expect.any(String), ...(code === undefined ? {} : { code }) },
  ]);

const mtime = new Date("2024-05-06T07:08:09.000Z");
const project: readonly TarEntry[] = [
  { name: "src/", type: "directory", mode: 0o755, mtime },
  { name: "src/a.txt", content: "line 1\nline 2\n", mode: 0o644, mtime },
  { name: "src/run.sh", content: "#!/bin/sh\n", mode: 0o755, mtime },
  { name: "src/link", type: "symlink", linkname: "a.txt", mtime },
  { name: "empty/", type: "directory", mode: 0o700, mtime },
  { name: "data.bin", content: Buffer.from([0, 1, 2, 255]), mode: 0o600, mtime },
];

async function imported(): Promise<{ id: string; version: string }> {
  const id = await newWorkspace();
  const { status, body } = await importTar(id, project);
  expect([status, body.version.artifact_entry_count]).toEqual([201, 7]);
  return { id, version: body.version.id };
}

describe("reading", () => {
  let shared: ReturnType<typeof imported> | undefined;

  test("a workspace that was never saved is an empty folder", async () => {
    const id = await newWorkspace();
    expect((await files(id, "")).body).toEqual({ path: "", entries: [] });
    expect((await files(id, "/stat", { path: "" })).body.entry).toMatchObject({
      path: "",
      kind: "directory",
    });
    expectRefusal(await files(id, "/stat", { path: "a" }), 404);
    expectRefusal(await files(id, "/content", { path: "a" }), 404);
  });

  test("lists a folder's children by name, in pages; entries say what they are", async () => {
    const { id } = await imported();
    const { body } = await files(id, "");
    expect(body.path).toBe("");
    expect(body.entries.map((entry: { name: string }) => entry.name)).toEqual(["data.bin", "empty", "src"]);
    const src = (await files(id, "", { path: "./src/" })).body;
    expect(src).toEqual({
      path: "src",
      entries: [
        {
          path: "src/a.txt",
          name: "a.txt",
          kind: "file",
          size_bytes: 14,
          mode: 0o644,
          mod_time: "2024-05-06T07:08:09.000000000Z",
        },
        {
          path: "src/link",
          name: "link",
          kind: "symlink",
          size_bytes: 5,
          mode: expect.any(Number),
          link_target: "a.txt",
          mod_time: "2024-05-06T07:08:09.000000000Z",
        },
        {
          path: "src/run.sh",
          name: "run.sh",
          kind: "file",
          size_bytes: 10,
          mode: 0o755,
          mod_time: "2024-05-06T07:08:09.000000000Z",
        },
      ],
    });
    const names: string[] = [];
    let cursor: string | undefined;
    do {
      const page = (await files(id, "", { limit: "2", ...(cursor === undefined ? {} : { cursor }) })).body;
      names.push(...page.entries.map((entry: { name: string }) => entry.name));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(names).toEqual(["data.bin", "empty", "src"]);
    expect((await files(id, "/stat", { path: "/src/a.txt" })).body.entry).toEqual(src.entries[0]);
  });

  test("bytes as they are; what is no file has none", async () => {
    const { id } = await imported();
    const { status, headers, bytes } = await content(id, "data.bin");
    expect([status, bytes]).toEqual([200, Buffer.from([0, 1, 2, 255])]);
    expect(headers.get("content-type")).toBe("application/octet-stream");
    expect(headers.get("content-length")).toBe("4");
    for (const path of ["", "src", "src/link"]) {
      expectRefusal(await files(id, "/content", { path }), 400);
    }
    expectRefusal(await files(id, "/content", { path: "src/none" }), 404);
    expectRefusal(await files(id, "", { path: "src/a.txt" }), 400);
    expectRefusal(await files(id, "", { path: "none" }), 404);
    // Links are not followed.
    expectRefusal(await files(id, "/stat", { path: "src/link/x" }), 404);
  });

  test.each([
    ["bytes=0-3", 206, "bytes 0-3/14", "line"],
    ["bytes=7-", 206, "bytes 7-13/14", "line 2\n"],
    ["bytes=-2", 206, "bytes 12-13/14", "2\n"],
    ["bytes=-100", 206, "bytes 0-13/14", "line 1\nline 2\n"],
    ["bytes=11-999", 206, "bytes 11-13/14", " 2\n"],
    ["bytes=3-1", 200, null, "line 1\nline 2\n"],
    ["bytes=0-1,3-4", 200, null, "line 1\nline 2\n"],
    ["lines=1-2", 200, null, "line 1\nline 2\n"],
  ])("Range: %s", async (range, status, contentRange, text) => {
    shared ??= imported();
    const { id } = await shared;
    const answer = await content(id, "src/a.txt", { range });
    expect([answer.status, answer.headers.get("content-range"), answer.bytes.toString()]).toEqual([
      status,
      contentRange,
      text,
    ]);
    expect(Number(answer.headers.get("content-length"))).toBe(answer.bytes.length);
  });
  test("a range beyond the file is refused with its size; an entity tag spares what the client has", async () => {
    const { id } = await imported();
    for (const range of ["bytes=14-", "bytes=-0"]) {
      const beyond = await content(id, "src/a.txt", { range });
      expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, "bytes */14"]);
    }
    const etag = (await content(id, "src/a.txt")).headers.get("etag") ?? "";
    expect(etag).toMatch(/^"[0-9a-f]{64}"$/);
    const known = await content(id, "src/a.txt", { "if-none-match": `"other", W/${etag}` });
    expect([known.status, known.bytes.length, known.headers.get("etag")]).toEqual([304, 0, etag]);
    const part = { range: "bytes=0-3" };
    expect((await content(id, "src/a.txt", { ...part, "if-range": etag })).status).toBe(206);
    expect((await content(id, "src/a.txt", { ...part, "if-range": '"other"' })).status).toBe(200);
    await put(id, "src/a.txt", "other");
    expect((await content(id, "src/a.txt", { "if-none-match": etag })).status).toBe(200);
  });

  test("of an earlier version; sources that contradict themselves are refused", async () => {
    const { id, version } = await imported();
    await put(id, "src/a.txt", "later");
    const query = `&source=version&version_id=${version}`;
    expect((await content(id, "src/a.txt", {}, query)).bytes.toString()).toBe("line 1\nline 2\n");
    expect((await content(id, "src/a.txt", {}, "&source=current")).bytes.toString()).toBe("later");
    for (const what of ["", "/stat", "/content"]) {
      const path = { path: "src/a.txt" };
      expectRefusal(await files(id, what, { ...path, version_id: version }), 400);
      expectRefusal(await files(id, what, { ...path, source: "version" }), 400);
      expectRefusal(await files(id, what, { ...path, source: "other" }), 400);
      expectRefusal(await files(id, what, { ...path, source: "live" }), 409, "workspace_not_live");
      expectRefusal(await files(id, what, { ...path, source: "version", version_id: missing }), 404);
      expectRefusal(await files(missing, what, path), 404);
      for (const bad of ["../x", "a/../../x", "a\0b", "x".repeat(5000)]) {
        expectRefusal(await files(id, what, { path: bad }), 400);
      }
    }
    for (const query of [{ limit: "0" }, { limit: "501" }, { cursor: "?" }, { cursor: "" }]) {
      expectRefusal(await files(id, "", query), 400);
    }
  });

  test("files that the store lost or damaged say so, by code", async () => {
    const id = await newWorkspace();
    await seedVersion(server.db, server.scope, id, testTree("never stored"));
    expectRefusal(await files(id, ""), 409, "workspace_version_artifact_missing");
    const { id: other, version } = await imported();
    const { rows } = await sql<{ digest: string }>`select a.digest from workspace_version_artifacts a
      join workspace_versions v on v.id = a.version_id where v.id = ${version} and a.digest <> v.manifest_digest`.execute(
      server.db,
    );
    for (const { digest } of rows) await server.artifacts.delete(digest);
    expect((await files(other, "/stat", { path: "data.bin" })).status).toBe(200);
    const lost = await files(other, "/content", { path: "data.bin" });
    expectRefusal(lost, 409, "workspace_version_artifact_missing");
    expectRefusal(
      await server.request("GET", `/workspaces/${other}/versions/${version}/archive`),
      409,
      "workspace_version_artifact_missing",
    );
  });
});

describe("uploading", () => {
  test("a file over the current version: what it had is kept, a new one gets a mode", async () => {
    const { id, version } = await imported();
    const replaced = await put(id, "src/run.sh", "#!/bin/bash\n", "&message=bash");
    expect([replaced.status, replaced.body.version]).toEqual([
      201,
      expect.objectContaining({ parent_version_id: version, kind: "user", message: "bash" }),
    ]);
    expect((await files(id, "/stat", { path: "src/run.sh" })).body.entry).toMatchObject({
      mode: 0o755,
      size_bytes: 12,
    });
    await put(id, "new/deep/file", "", "&mode=600");
    expect((await files(id, "/stat", { path: "new/deep/file" })).body.entry).toMatchObject({
      mode: 0o600,
      size_bytes: 0,
    });
    await put(id, "plain", "x");
    expect((await files(id, "/stat", { path: "plain" })).body.entry.mode).toBe(0o644);
    const large = randomBytes(250_000);
    await put(id, "large", large);
    expect((await content(id, "large")).bytes.equals(large)).toBe(true);
    expect((await content(id, "large", { range: "bytes=200000-200009" })).bytes).toEqual(
      large.subarray(200_000, 200_010),
    );
    const audit = await server.db
      .selectFrom("audit_log")
      .select("attributes")
      .where("resource_id", "=", id)
      .where("action", "=", "workspace.upload")
      .orderBy("id")
      .execute();
    expect(audit[1]?.attributes).toMatchObject({ path: "src/run.sh" });
  });

  test.each([
    ["plain", (tar: Buffer) => tar],
    ["gzip", (tar: Buffer) => gzipSync(tar)],
    ["zstd", (tar: Buffer) => zstdCompressSync(tar)],
  ])("an archive, %s", async (_name, compress) => {
    const id = await newWorkspace();
    await put(id, "kept", "kept");
    const tar = await tarOf([{ name: "a", content: "a" }]);
    expect((await importTar(id, compress(tar))).status).toBe(201);
    const names = async () => (await files(id, "")).body.entries.map((entry: { name: string }) => entry.name);
    expect(await names()).toEqual(["a", "kept"]);
    expect((await importTar(id, compress(tar), "?mode=replace")).status).toBe(201);
    expect(await names()).toEqual(["a"]);
  });

  test("what is refused leaves the workspace as it was, and nothing behind", async () => {
    const { id, version } = await imported();
    const many = Array.from({ length: 60 }, (_, n) => ({ name: `f${n}`, content: "x" }));
    const bomb = zstdCompressSync(await tarOf([{ name: "zeros", content: Buffer.alloc(400_000) }]));
    expect(bomb.length).toBeLessThan(10_000);
    const cut = gzipSync(await tarOf([{ name: "cut", content: randomBytes(20_000) }])).subarray(0, 10_000);
    for (const [answer, status] of [
      [await put(id, "a".repeat(300), "x"), 400],
      [await put(id, "", "x"), 400],
      [await put(id, "a/../b", "x"), 400],
      [await put(id, "src", "x"), 400],
      [await put(id, "src/a.txt/below", "x"), 400],
      [await put(id, "x", "x", "&mode=9"), 400],
      [await put(id, "x", Buffer.alloc(300_001)), 413],
      [await importTar(id, Buffer.from("no tar at all, but long enough to be one".repeat(40))), 400],
      [await importTar(id, cut), 400],
      [await importTar(id, [{ name: "../out", content: "x" }]), 400],
      [await importTar(id, [{ name: "/etc/passwd", content: "x" }]), 400],
      [await importTar(id, many), 413],
      [await importTar(id, bomb), 413],
      [await importTar(id, [], "?mode=other"), 400],
      [await put(missing, "x", "x"), 404],
      [await importTar(missing, []), 404],
    ] as const) {
      expect([answer.body, answer.status]).toEqual([{ error: expect.any(String) }, status]);
    }
    expect((await server.request("GET", `/workspaces/${id}`)).body.workspace.current_version_id).toBe(
      version,
    );
    const { rows } = await sql`select from artifact_reservations`.execute(server.db);
    expect(rows).toHaveLength(0);
    await removeDiscardedArtifacts(server.db, {
      limit: 10_000,
      graceMs: 0,
      remove: (digest) => server.artifacts.delete(digest),
    });
    expect((await content(id, "src/a.txt")).bytes.toString()).toBe("line 1\nline 2\n");
  });

  test("without content-length a too large one is refused as well, while it is sent", async () => {
    const id = await newWorkspace();
    const body = Readable.toWeb(Readable.from(Array.from({ length: 40 }, () => Buffer.alloc(10_000))));
    const response = await fetch(`${server.url}/api/workspaces/${id}/files/content?path=x`, {
      method: "PUT",
      headers: { authorization: `Bearer ${server.key}` },
      body: body as ReadableStream,
      duplex: "half",
    } as RequestInit);
    expect(response.status).toBe(413);
  });

  test("only into a workspace that nobody uses, and that is active", async () => {
    const id = await newWorkspace();
    await sql`insert into workspace_materializations (id, environment_id, project_id, workspace_id, deployment_sandbox_id, state)
      select gen_random_uuid(), w.environment_id, w.project_id, w.id, w.deployment_sandbox_id, 'running'
      from workspaces w where w.id = ${id}`.execute(server.db);
    expectRefusal(await put(id, "x", "x"), 409, "workspace_in_use");
    await sql`update workspace_materializations set state = 'stopped', ended_at = now() where workspace_id = ${id}`.execute(
      server.db,
    );
    await put(id, "x", "x");
    await server.request("DELETE", `/workspaces/${id}`);
    expectRefusal(await put(id, "x", "y"), 409, "workspace_not_active");
    expectRefusal(await importTar(id, project), 409, "workspace_not_active");
    expect((await content(id, "x")).bytes.toString()).toBe("x");
  });

  test("of two at once one is told to do it again; no file is lost of those that were taken", async () => {
    const id = await newWorkspace();
    const answers = await Promise.all(["a", "b", "c", "d"].map((name) => put(id, name, name)));
    const taken = answers.flatMap(({ status }, index) => (status === 201 ? ["abcd"[index]] : []));
    expect(taken.length).toBeGreaterThan(0);
    for (const answer of answers.filter(({ status }) => status !== 201)) {
      expectRefusal(answer, 409, "workspace_in_use");
    }
    const { entries } = (await files(id, "")).body;
    expect(entries.map((entry: { name: string }) => entry.name)).toEqual(taken);
  });
});

describe("comparing and downloading", () => {
  test("what changed since the parent, or since another version, in pages", async () => {
    const { id, version } = await imported();
    const next = (
      await importTar(
        id,
        [
          { name: "src/", type: "directory", mode: 0o755, mtime },
          { name: "src/a.txt", content: "line 1\nline two\n", mode: 0o644, mtime },
          { name: "src/run.sh", content: "#!/bin/sh\n", mode: 0o700, mtime },
          { name: "src/link", content: "now a file", mtime },
          { name: "moved.bin", content: Buffer.from([0, 1, 2, 255]), mode: 0o600, mtime },
          { name: "new", content: "new", mtime },
        ],
        "?mode=replace",
      )
    ).body.version.id;
    const diff = (query = "") => server.request("GET", `/workspaces/${id}/versions/${next}/diff${query}`);
    const { status, body } = await diff();
    expect([status, body.base_version_id, body.version_id, body.next_cursor]).toEqual([
      200,
      version,
      next,
      undefined,
    ]);
    const changes = body.changes
      .filter((change: { path: string }) => change.path !== "")
      .map((change: { path: string; change: string }) => [change.path, change.change]);
    expect(changes.sort()).toEqual([
      ["empty", "removed"],
      ["moved.bin", "renamed"],
      ["new", "added"],
      ["src/a.txt", "modified"],
      ["src/link", "type"],
      ["src/run.sh", "metadata"],
    ]);
    expect(body.changes.find((change: { path: string }) => change.path === "moved.bin")).toMatchObject({
      previous_path: "data.bin",
      kind: "file",
      size_bytes: 4,
    });
    const paged: unknown[] = [];
    for (let cursor = ""; ; ) {
      const page = (await diff(`?limit=2${cursor}`)).body;
      expect(page.changes.length).toBeLessThanOrEqual(2);
      paged.push(...page.changes);
      if (page.next_cursor === undefined) break;
      cursor = `&cursor=${page.next_cursor}`;
    }
    expect(paged).toEqual(body.changes);
    expect((await diff(`?base_version_id=${next}`)).body.changes).toEqual([]);
    const first = await server.request("GET", `/workspaces/${id}/versions/${version}/diff`);
    expect(first.body.base_version_id).toBeUndefined();
    expect(first.body.changes.map((change: { change: string }) => change.change)).toEqual(
      Array(first.body.changes.length).fill("added").fill(expect.any(String), 0, 1),
    );
    expectRefusal(await diff("?base_version_id=x"), 400);
    expectRefusal(await diff(`?base_version_id=${missing}`), 404);
    expectRefusal(await diff("?cursor=x"), 400);
    expectRefusal(await server.request("GET", `/workspaces/${id}/versions/${missing}/diff`), 404);

    const text = (path: string) =>
      server.request(
        "GET",
        `/workspaces/${id}/versions/${next}/diff/content?path=${encodeURIComponent(path)}`,
      );
    expect((await text("src/a.txt")).body).toEqual({
      path: "src/a.txt",
      status: "text",
      diff: "--- a/src/a.txt\n+++ b/src/a.txt\n@@ -1,2 +1,2 @@\n line 1\n-line 2\n+line two\n",
    });
    expect((await text("src/run.sh")).body).toEqual({ path: "src/run.sh", status: "unchanged" });
    expect((await text("moved.bin")).body).toEqual({ path: "moved.bin", status: "binary" });
    expect((await text("new")).body.diff).toContain("--- /dev/null");
    expectRefusal(await text("src"), 400);
    expectRefusal(await text("none"), 404);
    await sql`delete from workspace_versions where id = ${version}`.execute(server.db);
    expectRefusal(await diff(), 409, "workspace_version_missing");
  });

  test("an archive holds the version, and can be uploaded again", async () => {
    const { id, version } = await imported();
    const url = `${server.url}/api/workspaces/${id}/versions/${version}/archive`;
    const response = await fetch(url, { headers: { authorization: `Bearer ${server.key}` } });
    expect(response.headers.get("content-type")).toBe("application/zstd");
    expect(response.headers.get("content-disposition")).toContain(".tar.zst");
    const archive = Buffer.from(await response.arrayBuffer());
    const names: string[] = [];
    for await (const entry of Readable.from([zstdDecompressSync(archive)]).pipe(extract())) {
      names.push(entry.header.name);
      entry.resume();
    }
    expect(names.filter((name) => name !== "./").sort()).toEqual(project.map(({ name }) => name).sort());
    const copy = await newWorkspace();
    await importTar(copy, archive);
    expect((await content(copy, "data.bin")).bytes).toEqual(Buffer.from([0, 1, 2, 255]));
    const versions = await Promise.all(
      [id, copy].map(async (each) => (await server.request("GET", `/workspaces/${each}/versions`)).body),
    );
    expect(versions[1]?.versions[0].content_digest).toBe(versions[0]?.versions[0].content_digest);
    const { rows } = await sql`select from artifact_reservations`.execute(server.db);
    expect(rows).toHaveLength(0);
  });
});

describe("of a live copy", () => {
  let worker: LiveWorker;
  beforeAll(async () => {
    worker = await registerLiveWorker(server);
  });

  async function live(): Promise<{ id: string; copy: LiveCopy }> {
    await sql`update workspace_materializations set state = 'stopped', ended_at = now() where ended_at is null`.execute(
      server.db,
    );
    const id = await newWorkspace();
    await server.request("POST", `/workspaces/${id}/materialize`, {});
    return { id, copy: await worker.bringUp() };
  }
  const answer = async (copy: LiveCopy, result: object, data?: string) => {
    const { request_id, ...question } = await copy.command("files");
    const data_base64 = data === undefined ? {} : { data_base64: Buffer.from(data).toString("base64") };
    await copy.post(`requests/${request_id}`, { status: "done", result, ...data_base64 });
    return question;
  };
  const entry = (size: number) => ({ path: "a", name: "a", kind: "file", size_bytes: size, mode: 0o644 });

  test("its worker lists, in pages, and says what a path is", async () => {
    const { id, copy } = await live();
    const listing = files(id, "", { source: "live", path: "src", limit: "1" });
    expect(await answer(copy, { entries: [entry(1)], next_after: "a" })).toMatchObject({
      operation: "list",
      path: "src",
      limit: 1,
    });
    const page = await listing;
    expect(page.body).toEqual({ path: "src", entries: [entry(1)], next_cursor: expect.any(String) });
    const rest = files(id, "", { source: "live", path: "src", cursor: page.body.next_cursor });
    expect(await answer(copy, { entries: [] })).toMatchObject({ after: "a" });
    expect((await rest).body).toEqual({ path: "src", entries: [] });
    const stat = files(id, "/stat", { source: "live", path: "a", materialization_id: copy.id });
    await answer(copy, { entry: entry(5) });
    expect((await stat).body).toEqual({ entry: entry(5) });
    const other = { source: "live", path: "a", materialization_id: missing };
    expectRefusal(await files(id, "/stat", other), 409, "workspace_not_live");
  });

  test("its worker reads, whole or a range; what is no file is refused", async () => {
    const { id, copy } = await live();
    const whole = content(id, "a", {}, "&source=live");
    await answer(copy, { entry: entry(5) });
    expect(await answer(copy, { entry: entry(5) }, "hello")).toMatchObject({ start: 0, limit: 5 });
    expect((await whole).bytes.toString()).toBe("hello");
    const part = content(id, "a", { range: "bytes=1-2" }, "&source=live");
    await answer(copy, { entry: entry(5) });
    expect(await answer(copy, { entry: entry(5) }, "el")).toMatchObject({ start: 1, limit: 2 });
    expect([(await part).status, (await part).bytes.toString()]).toEqual([206, "el"]);
    const folder = files(id, "/content", { source: "live", path: "src" });
    await answer(copy, {
      entry: { path: "src", name: "src", kind: "directory", size_bytes: 0, mode: 0o755 },
    });
    expectRefusal(await folder, 400);
    const none = files(id, "/content", { source: "live", path: "none" });
    const { request_id } = await copy.command("files");
    const result = { code: "not_found", message: "there is no none" };
    await copy.post(`requests/${request_id}`, { status: "failed", result });
    expectRefusal(await none, 404);
  });

  test("a file that gets shorter while it is read is not taken for whole", async () => {
    const { id, copy } = await live();
    const reading = content(id, "a", {}, "&source=live");
    const refused = expect(reading).rejects.toThrow();
    await answer(copy, { entry: entry(8) });
    await answer(copy, { entry: entry(3) }, "abc");
    await answer(copy, { entry: entry(3) }, "");
    await refused;
  });
});
