/** Files and versions of a workspace: requests, bytes, pages, uploads. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { wireVersion, wireWorkspace } from "../../../test-support/wire-workspaces.ts";
import { HelmrApiError, HelmrClient, InvalidResponseError, TransportError } from "../../index.ts";

interface Asked {
  readonly line: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}
const asked: Asked[] = [];
let answers: ((response: ServerResponse) => void)[] = [];
let server: Server;
let client: HelmrClient;
beforeAll(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const line = `${request.method} ${request.url?.replace("/api/workspaces/w1", "")}`;
    asked.push({ line, headers: request.headers, body: Buffer.concat(chunks) });
    (answers.shift() ?? ((one) => one.writeHead(599).end("the script has no more answers")))(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  vi.spyOn(console, "warn").mockImplementation(() => {});
  client = new HelmrClient({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    apiKey: "k",
  });
  asked.length = 0;
  answers = [];
});
afterEach(() => {
  vi.restoreAllMocks();
});

const json =
  (body: unknown, status = 200) =>
  (response: ServerResponse) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
const bytes =
  (data: Uint8Array, status = 200) =>
  (response: ServerResponse) =>
    response.writeHead(status, { "content-type": "application/octet-stream" }).end(data);
const lines = () => asked.map(({ line }) => line);
const open = () => client.workspaces.open("w1");
const wireEntry = (name: string) => ({
  path: `a/${name}`,
  name,
  kind: "file",
  size_bytes: 3,
  mode: 0o644,
  mod_time: wireWorkspace.created_at,
});
const entry = (name: string) => ({
  path: `a/${name}`,
  name,
  kind: "file",
  sizeBytes: 3,
  mode: 0o644,
  modTime: wireWorkspace.created_at,
});
const version = {
  id: "v1",
  workspaceId: "w1",
  kind: "user",
  state: "ready",
  contentDigest: "sha256:0",
  sizeBytes: 5,
  artifactEncoding: "helmr.tree.v1",
  artifactEntryCount: 2,
  createdAt: wireVersion.created_at,
};
const made = json({ version: wireVersion }, 201);

describe("files", () => {
  it("read gives all bytes, of the source that is asked for", async () => {
    const data = Buffer.from(Array.from({ length: 300_000 }, (_, index) => index % 251));
    answers = [bytes(data), bytes(Buffer.alloc(0)), bytes(data.subarray(5, 8), 206), bytes(data, 206)];
    expect(Buffer.from(await open().files.read("a b/ä.bin"))).toEqual(data);
    expect(await open().files.read("x", { versionId: "v1" })).toEqual(new Uint8Array(0));
    expect(await open().files.read("x", { offset: 5, length: 3 })).toEqual(new Uint8Array([5, 6, 7]));
    await open().files.read("x", { source: "live", materializationId: "m1", offset: 9 });
    expect(lines()).toEqual([
      "GET /files/content?path=a+b%2F%C3%A4.bin",
      "GET /files/content?path=x&source=version&version_id=v1",
      "GET /files/content?path=x",
      "GET /files/content?path=x&source=live&materialization_id=m1",
    ]);
    expect(asked.map(({ headers }) => headers.range)).toEqual([
      undefined,
      undefined,
      "bytes=5-7",
      "bytes=9-",
    ]);
    await expect(open().files.read("x", { length: 0 })).rejects.toThrow(RangeError);
  });

  it("read reports a refusal, and a body that is cut", async () => {
    answers = [
      json({ error: "no such file" }, 404),
      (response) => {
        response.writeHead(200, { "content-length": "10" });
        response.write("abc", () => response.destroy());
      },
    ];
    await expect(open().files.read("x")).rejects.toBeInstanceOf(HelmrApiError);
    await expect(open().files.read("x")).rejects.toBeInstanceOf(TransportError);
  });

  it("readStream gives bytes as they come, and frees the connection when it is cancelled", async () => {
    let closed = false;
    answers = [
      (response) => {
        response.on("close", () => {
          closed = true;
        });
        response.writeHead(200).write("abc");
      },
    ];
    const reader = (await open().files.readStream("x")).getReader();
    expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe("abc");
    await reader.cancel();
    await vi.waitUntil(() => closed);
  });

  it("list follows the pages, or gives the one that is asked for", async () => {
    const page = (name: string, next?: string) =>
      json({ path: "a", entries: [wireEntry(name)], ...(next === undefined ? {} : { next_cursor: next }) });
    answers = [page("1", "c1"), page("2"), page("1", "c1"), page("2"), page("1", "c1")];
    expect(await open().files.list("a")).toEqual([entry("1"), entry("2")]);
    expect(await open().files.list("a", { limit: 1 })).toEqual([entry("1")]);
    expect(await open().files.list("a", { cursor: "c1" })).toEqual([entry("2")]);
    expect(await open().files.listPage()).toEqual({ path: "a", entries: [entry("1")], nextCursor: "c1" });
    expect(lines()).toEqual([
      "GET /files?path=a&limit=500",
      "GET /files?path=a&limit=500&cursor=c1",
      "GET /files?path=a&limit=1",
      "GET /files?path=a&cursor=c1",
      "GET /files?path=",
    ]);
  });

  it("stat", async () => {
    const link = { path: "l", kind: "symlink", size_bytes: 0, mode: 0o777, link_target: "x" };
    answers = [json({ entry: link }), json({ entry: { ...link, mode: "777" } })];
    expect(await open().files.stat("l", { source: "current" })).toEqual({
      path: "l",
      kind: "symlink",
      sizeBytes: 0,
      mode: 0o777,
      linkTarget: "x",
    });
    expect(lines()).toEqual(["GET /files/stat?path=l&source=current"]);
    await expect(open().files.stat("l")).rejects.toBeInstanceOf(InvalidResponseError);
  });

  it("write sends the bytes", async () => {
    answers = [made, made];
    expect(await open().files.write("a", new Uint8Array([0, 255]), { mode: 0o755, message: "m" })).toEqual(
      version,
    );
    await open().files.write("b", "ä");
    expect(lines()).toEqual(["PUT /files/content?path=a&mode=755&message=m", "PUT /files/content?path=b"]);
    expect(asked.map(({ body }) => body.toString("hex"))).toEqual(["00ff", "c3a4"]);
    expect(asked[0]?.headers["content-type"]).toBe("application/octet-stream");
  });
});

describe("versions", () => {
  it("retrieve, list, capture, restore", async () => {
    const more = { parent_version_id: "v0", message: "m", promoted_at: wireVersion.created_at };
    answers = [
      json({ version: { ...wireVersion, ...more } }),
      json({ versions: [wireVersion] }),
      made,
      json({ version: wireVersion }),
      made,
    ];
    const { versions } = open();
    expect(await versions.retrieve("v1")).toEqual({
      ...version,
      parentVersionId: "v0",
      message: "m",
      promotedAt: wireVersion.created_at,
    });
    expect(await versions.list({ kind: "user", limit: 2 })).toEqual([version]);
    expect(await versions.capture({ message: "m", idempotencyKey: "k" })).toEqual(version);
    await versions.capture();
    await versions.restore("v1", { message: "back" });
    expect(lines()).toEqual([
      "GET /versions/v1",
      "GET /versions?kind=user&limit=2",
      "POST /versions",
      "POST /versions",
      "POST /versions/v1/restore",
    ]);
    expect(asked.slice(2).map(({ body }) => JSON.parse(body.toString()))).toEqual([
      { message: "m", idempotency_key: "k" },
      {},
      { message: "back" },
    ]);
  });

  it("diff collects its pages, changes iterates over them", async () => {
    const change = (path: string) => ({ path, change: "added", kind: "file", size_bytes: 1 });
    const page = (path: string, next?: string) =>
      json({
        base_version_id: "v0",
        version_id: "v1",
        changes: [change(path)],
        ...(next === undefined ? {} : { next_cursor: next }),
      });
    answers = [page("a", "c"), page("b"), page("a", "c"), page("a", "c"), page("b")];
    const { versions } = open();
    const changes = ["a", "b"].map((path) => ({ path, change: "added", kind: "file", sizeBytes: 1 }));
    expect(await versions.diff("v1", { base: "v0" })).toEqual({
      baseVersionId: "v0",
      versionId: "v1",
      changes,
      nextCursor: null,
    });
    expect(await versions.diff("v1", { limit: 1 })).toMatchObject({ nextCursor: "c" });
    const seen: unknown[] = [];
    for await (const one of versions.changes("v1", { limit: 1 })) seen.push(one);
    expect(seen).toEqual(changes);
    expect(lines()).toEqual([
      "GET /versions/v1/diff?base_version_id=v0",
      "GET /versions/v1/diff?base_version_id=v0&cursor=c",
      "GET /versions/v1/diff?limit=1",
      "GET /versions/v1/diff?limit=1",
      "GET /versions/v1/diff?limit=1&cursor=c",
    ]);
  });

  it("diffFile", async () => {
    answers = [json({ path: "a", status: "text", diff: "@@" }), json({ path: "a", status: "odd" })];
    expect(await open().versions.diffFile("v1", "a", { base: "v0" })).toEqual({
      path: "a",
      status: "text",
      diff: "@@",
    });
    expect(lines()).toEqual(["GET /versions/v1/diff/content?base_version_id=v0&path=a"]);
    await expect(open().versions.diffFile("v1", "a")).rejects.toBeInstanceOf(InvalidResponseError);
  });

  it("download streams the archive", async () => {
    answers = [bytes(Buffer.from("tar"))];
    const stream = await open().versions.download("v1");
    expect(await new Response(stream).text()).toBe("tar");
    expect(lines()).toEqual(["GET /versions/v1/archive"]);
  });

  it("upload takes bytes, a stream, and what is iterated over", async () => {
    const tar = Buffer.alloc(200_000, 5);
    async function* pieces() {
      for (let at = 0; at < tar.length; at += 30_000) yield tar.subarray(at, at + 30_000);
    }
    answers = [made, made, made];
    const { versions } = open();
    expect(await versions.upload(tar, { mode: "replace", message: "m" })).toEqual(version);
    await versions.upload(pieces());
    await versions.upload(new Blob([tar]).stream());
    expect(lines()).toEqual([
      "POST /versions/import?mode=replace&message=m",
      "POST /versions/import",
      "POST /versions/import",
    ]);
    for (const { body } of asked) expect(body.equals(tar)).toBe(true);
  });

  it("upload ends with the failure of its source, and with an abort", async () => {
    async function* broken() {
      yield Buffer.from("x");
      throw new Error("disk gone");
    }
    await expect(open().versions.upload(broken())).rejects.toThrow("disk gone");
    const controller = new AbortController();
    async function* endless() {
      for (;;) {
        yield Buffer.alloc(1000);
        if (!controller.signal.aborted) controller.abort(new Error("enough"));
      }
    }
    await expect(open().versions.upload(endless(), { signal: controller.signal })).rejects.toThrow("enough");
  });
});
