/** Deployments over HTTP: uploads good and hostile, progress, promotion, and what the current one declares. */
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { appendDeploymentEvents, getDeployment } from "@helmr/store";
import { seededSandbox } from "@helmr/store/testing";
import { sql } from "kysely";
import { type Header, pack as tarPack } from "tar-stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, startTestServer, type TestServer } from "./support/server.ts";
import { openStream, take, takeAll } from "./support/sse.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
});
afterAll(() => server.stop());

type Entry = [Partial<Header> & { name: string }, string?];

async function tar(...entries: Entry[]): Promise<Uint8Array<ArrayBuffer>> {
  const pack = tarPack();
  const whole = buffer(pack as unknown as Readable);
  for (const [header, body] of entries) pack.entry(header, body ?? "");
  pack.finalize();
  return new Uint8Array(await whole);
}

const hashOf = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
let serial = 0;
async function newSource(): Promise<Uint8Array<ArrayBuffer>> {
  serial += 1;
  return await tar([{ name: "package.json" }, `{"serial":${serial}}`]);
}

type Part = [name: string, value: string | Blob];

async function upload(...parts: Part[]): Promise<Answer> {
  const form = new FormData();
  for (const [name, value] of parts) {
    if (typeof value === "string") form.append(name, value);
    else form.append(name, value, "deployment-source.tar");
  }
  return await server.request("POST", "/deployments", undefined, { raw: form });
}

const metadataOf = (bytes: Uint8Array, fields: object = {}) =>
  JSON.stringify({ project_id: "", content_hash: hashOf(bytes), ...fields });

async function deploy(bytes: Uint8Array<ArrayBuffer>, fields: object = {}): Promise<Answer> {
  return await upload(["metadata", metadataOf(bytes, fields)], ["deployment_source", new Blob([bytes])]);
}

/** What the build worker leaves behind. */
async function build(id: string, tasks: string[] = ["hello"]): Promise<void> {
  const environment_id = server.scope.environmentId;
  for (const task_id of tasks) {
    await server.db
      .insertInto("deployment_tasks")
      .values({
        id: crypto.randomUUID(),
        deployment_id: id,
        environment_id,
        task_id,
        file_path: "tasks/hello.ts",
        export_name: task_id,
        sandbox_id: "box",
        queue_name: `task/${task_id}`,
        max_duration_seconds: 900,
        retry_policy: JSON.stringify({ enabled: false }),
        secrets: "[]",
        has_payload: false,
      })
      .execute();
    await server.db
      .insertInto("deployment_queues")
      .values({ deployment_id: id, name: `task/${task_id}`, concurrency_limit: 3 })
      .execute();
  }
  await server.db
    .insertInto("deployment_sandboxes")
    .values({
      id: crypto.randomUUID(),
      deployment_id: id,
      environment_id,
      sandbox_id: "box",
      fingerprint: "f",
      image_digest: "sha256:00",
      definition: JSON.stringify(seededSandbox),
    })
    .execute();
  await sql`update deployments set status = 'deployed', built_at = now(), deployed_at = now() where id = ${id}`.execute(
    server.db,
  );
  await appendDeploymentEvents(server.db, id, [
    { kind: "deployment.deployed", message: "Built", attributes: { status: "deployed" } },
  ]);
  server.bus.publish(`deployment:${id}`);
}

describe("upload", () => {
  test("a source becomes a queued deployment", async () => {
    const bytes = await newSource();
    const { status, body } = await deploy(bytes, {
      api_version: "2026-06-06",
      sdk_version: "0.1.0",
      cli_version: "0.2.0",
      bundle_format_version: 2,
      worker_protocol_version: "helmr.worker.v1",
    });
    expect(status).toBe(201);
    expect(body).toMatchObject({
      status: "queued",
      sdk_version: "0.1.0",
      cli_version: "0.2.0",
      content_hash: hashOf(bytes),
      deployment_source: {
        digest: hashOf(bytes),
        size_bytes: bytes.length,
        media_type: "application/vnd.helmr.deployment-source.v0.tar",
      },
      tasks: [],
      building_at: null,
      deployed_at: null,
    });
    expect(body.version).toMatch(/^\d{8}\.\d+$/);
    expect((await server.request("GET", `/deployments/${body.id}`)).body).toEqual(body);
    expect((await server.request("GET", "/deployments/current")).body).toEqual({ deployment: null });
  });

  test("the same content is built once at a time, versions count on", async () => {
    const bytes = await newSource();
    const answers = await Promise.all(Array.from({ length: 4 }, () => deploy(bytes)));
    const [first] = answers;
    expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    await build(first?.body.id);
    const next = await deploy(bytes);
    expect(next.body.id).not.toBe(first?.body.id);
    const numberOf = (answer: Answer | undefined) => Number(answer?.body.version.split(".")[1]);
    expect(numberOf(next)).toBe(numberOf(first) + 1);
  });

  test("what is wrong with the parts", async () => {
    const bytes = await newSource();
    const source: Part = ["deployment_source", new Blob([bytes])];
    const metadata: Part = ["metadata", metadataOf(bytes)];
    const cases: [Part[], string][] = [
      [[source, metadata], "the first part must be the field metadata"],
      [[["other", "x"], source], "the first part must be the field metadata"],
      [[metadata], "the second part must be the file deployment_source"],
      [[metadata, ["source", new Blob([bytes])]], "the second part must be the file deployment_source"],
      [[metadata, ["deployment_source", "text"]], ""],
      [[metadata, source, ["more", "x"]], ""],
      [[["metadata", "{"], source], "metadata is not valid JSON"],
      [[["metadata", "x".repeat(1024 * 1024 + 1)], source], "metadata"],
      [[["metadata", "{}"], source], "content_hash"],
      [[["metadata", metadataOf(bytes, { unknown: 1 })], source], "unknown"],
      [[["metadata", metadataOf(bytes, { project_id: "p" })], source], "project_id"],
      [[["metadata", metadataOf(bytes, { environment_id: "e" })], source], "environment_id"],
      [[["metadata", metadataOf(bytes, { api_version: "2020-01-01" })], source], "api_version"],
      [[["metadata", metadataOf(bytes, { bundle_format_version: 1 })], source], "bundle_format_version"],
      [
        [["metadata", metadataOf(bytes, { worker_protocol_version: "x" })], source],
        "worker_protocol_version",
      ],
      [
        [["metadata", metadataOf(bytes, { content_hash: `sha256:${"0".repeat(64)}` })], source],
        "content_hash: the uploaded tar has",
      ],
    ];
    for (const [parts, message] of cases) {
      const { status, body } = await upload(...parts);
      expect({ status, error: body.error }).toEqual({ status: 400, error: expect.stringContaining(message) });
    }
    expect((await server.request("POST", "/deployments", { metadata: {} })).status).toBe(400);
  });

  const attacks: [string, Entry[], string][] = [
    ["a parent name", [[{ name: "../x" }, "x"]], '"../x"'],
    ["an absolute name", [[{ name: "/etc/x" }, "x"]], '"/etc/x"'],
    ["a link out", [[{ name: "l", type: "symlink", linkname: "../../etc" }]], '"l"'],
    [
      "a write through a link",
      [[{ name: "l", type: "symlink", linkname: "." }], [{ name: "l/x" }, "x"]],
      '"l/x"',
    ],
    ["a device", [[{ name: "d", type: "block-device" }]], '"d"'],
    [
      "a duplicate",
      [
        [{ name: "a" }, "1"],
        [{ name: "a" }, "2"],
      ],
      '"a"',
    ],
  ];
  test.each(attacks)("refused: %s", async (_name, entries, named) => {
    const bytes = await tar(...entries);
    const { status, body } = await deploy(bytes);
    expect({ status, error: body.error }).toEqual({
      status: 400,
      error: expect.stringContaining(`deployment_source: ${named}`),
    });
  });

  test("what is no tar", async () => {
    expect((await deploy(new Uint8Array(4096).fill(9))).body.error).toContain("not a complete tar archive");
    expect((await deploy(new Uint8Array(0))).body.error).toContain("the source is empty");
  });

  test("more than 128 MiB, declared or not", async () => {
    const size = 128 * 1024 * 1024 + 10;
    const huge = new Uint8Array(size);
    const declared = await deploy(huge);
    expect(declared.status).toBe(413);
    const boundary = "helmr-boundary";
    async function* parts() {
      const encode = (text: string) => new TextEncoder().encode(text);
      yield encode(
        `--${boundary}\r\ncontent-disposition: form-data; name="metadata"\r\n\r\n${metadataOf(huge)}\r\n--${boundary}\r\n` +
          `content-disposition: form-data; name="deployment_source"; filename="x.tar"\r\n\r\n`,
      );
      for (let sent = 0; sent < size; sent += 1024 * 1024) yield huge.subarray(0, 1024 * 1024);
      yield encode(`\r\n--${boundary}--\r\n`);
    }
    const response = await fetch(`${server.url}/api/deployments`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${server.key}`,
        "content-type": `multipart/form-data; boundary=${boundary}`,
      },
      body: ReadableStream.from(parts()),
      duplex: "half",
    } as RequestInit);
    expect(response.status).toBe(413);
  });
});

describe("reading and following", () => {
  test("a list, newest first, without tasks", async () => {
    const first = (await deploy(await newSource())).body;
    const second = (await deploy(await newSource())).body;
    await build(second.id);
    const { deployments } = (await server.request("GET", "/deployments?limit=2")).body;
    expect(deployments.map((each: { id: string }) => each.id)).toEqual([second.id, first.id]);
    expect(deployments[0]).toMatchObject({ status: "deployed", tasks: [] });
    expect((await server.request("GET", `/deployments/${second.id}`)).body.tasks).toMatchObject([
      { task_id: "hello", queue_name: "task/hello", concurrency_limit: 3, bundle_format_version: 2 },
    ]);
    expect((await server.request("GET", "/deployments?limit=0")).status).toBe(400);
    expect((await server.request("GET", "/deployments/nope")).status).toBe(400);
    for (const path of ["", "/events", "/events?follow=1"]) {
      expect((await server.request("GET", `/deployments/${crypto.randomUUID()}${path}`)).status).toBe(404);
    }
  });

  test("events in pages and live, to the terminal one", async () => {
    const { body } = await deploy(await newSource());
    const page = (await server.request("GET", `/deployments/${body.id}/events`)).body;
    expect(page.events).toMatchObject([
      {
        id: "1",
        deployment_id: body.id,
        kind: "deployment.queued",
        category: "lifecycle",
        attributes: { status: "queued" },
      },
    ]);
    expect(page.events[0]).not.toHaveProperty("run_id");
    expect(page.events[0].message).not.toBe("deployment.queued");
    const stream = await openStream(`${server.url}/api/deployments/${body.id}/events?follow=1`, server.key);
    expect(await take(stream, 1)).toMatchObject([{ id: "1", event: "deployment_event" }]);
    await appendDeploymentEvents(server.db, body.id, [{ kind: "build.step", message: "npm install" }]);
    server.bus.publish(`deployment:${body.id}`);
    expect(await take(stream, 1)).toMatchObject([{ data: { message: "npm install" } }]);
    await build(body.id);
    expect((await takeAll(stream)).map((frame) => frame.data.kind)).toEqual(["deployment.deployed"]);
    const resumed = await openStream(`${server.url}/api/deployments/${body.id}/events?follow=1`, server.key, {
      "last-event-id": "2",
    });
    expect((await takeAll(resumed)).map((frame) => frame.id)).toEqual(["3"]);
  });
});

describe("promotion", () => {
  const promote = (name: string, body?: object) =>
    server.request("POST", `/deployments/${name}/promote`, body);

  test("by id and by version, with what the deployment declares", async () => {
    const one = (await deploy(await newSource())).body;
    expect(await promote(one.id, {})).toMatchObject({
      status: 400,
      body: { error: "deployment is not deployable" },
    });
    await build(one.id, ["hello", "other"]);
    expect(await promote(one.id)).toMatchObject({ status: 200, body: { id: one.id, tasks: null } });
    const tasks = (await server.request("GET", "/tasks")).body.tasks;
    expect(tasks.map((task: { task_id: string }) => task.task_id)).toEqual(["hello", "other"]);
    expect((await server.request("GET", "/tasks/other")).body).toEqual(tasks[1]);
    expect((await server.request("POST", "/sessions", { task_id: "other" })).status).toBe(201);
    const sandboxes = (await server.request("GET", "/sandboxes")).body.sandboxes;
    expect(sandboxes).toMatchObject([
      {
        sandbox_id: "box",
        deployment_id: one.id,
        workspace_mount_path: "/workspace",
        resource_floor: { milli_cpu: 1000, memory_mib: 512 },
        disk_floor_mib: 1024,
        default_uid: 0,
      },
    ]);
    expect((await server.request("GET", "/sandboxes/box")).body).toEqual(sandboxes[0]);

    const two = (await deploy(await newSource())).body;
    await build(two.id, ["hello"]);
    expect((await promote(two.version, { reason: "deploy" })).status).toBe(200);
    expect((await server.request("GET", "/deployments/current")).body.deployment).toMatchObject({
      id: two.id,
      tasks: [{ task_id: "hello" }],
    });
    expect((await server.request("GET", "/tasks/other")).status).toBe(404);
    expect((await server.request("GET", "/sandboxes/none")).status).toBe(404);
    expect(await server.request("POST", "/sessions", { task_id: "other" })).toMatchObject({
      body: { code: "task_not_deployed" },
    });
    const queues = await server.db.selectFrom("queues").select(["name", "concurrency_limit"]).execute();
    expect(queues).toEqual([{ name: "task/hello", concurrency_limit: 3 }]);
    expect(await getDeployment(server.db, server.scope, one.id)).toMatchObject({ status: "deployed" });
  });

  test("what is not there or not allowed", async () => {
    expect((await promote(crypto.randomUUID(), {})).status).toBe(404);
    expect((await promote("20200101.1", {})).status).toBe(404);
    expect((await promote("latest", {})).status).toBe(400);
    expect((await promote(crypto.randomUUID(), { project_id: "p" })).status).toBe(400);
  });
});
