/** Requests that mean harm: characters that PostgreSQL refuses, and clients that stop reading. */
import { once } from "node:events";
import { type AddressInfo, connect } from "node:net";
import { createMemoryBus } from "@helmr/coordination";
import Fastify from "fastify";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { StreamHub } from "../src/http/stream-hub.ts";
import { startTestServer, type TestServer } from "./support/server.ts";

describe("hostile requests", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startTestServer();
  });
  afterAll(() => server.stop());

  it.each([
    ["GET", "/tasks/a%00b", undefined],
    ["GET", "/sandboxes/a%00b", undefined],
    ["POST", "/deployments/a%00b/promote", {}],
    ["GET", "/sessions?external_id=a%00b", undefined],
    ["GET", "/secrets/a%00b", undefined],
    ["POST", "/sessions", { task_id: "hello", payload: "a\0b", metadata: { a: "\0" } }],
    ["POST", "/sessions", { task_id: "hello", idempotency_key: "a\0b" }],
    ["POST", "/sessions", { task_id: "hello", tags: ["a\0b"] }],
  ])("answers 400 or 404 to %s %s with NUL, never 500", async (method, path, body) => {
    const answer = await server.request(method, path, body);
    expect([400, 404]).toContain(answer.status);
    expect(JSON.stringify(answer.body)).not.toMatch(/select|insert|0x00|postgres/i);
  });

  it("answers 400 to an upload whose versions hold NUL", async () => {
    const form = new FormData();
    form.append("metadata", JSON.stringify({ content_hash: `sha256:${"0".repeat(64)}`, sdk_version: "1\0" }));
    form.append("deployment_source", new Blob(["x"]), "deployment-source.tar");
    expect((await server.request("POST", "/deployments", undefined, { raw: form })).status).toBe(400);
  });
});

it("refuses requests that wait, and starts nothing, when no place is left", async () => {
  const server = await startTestServer({ maxStreams: 0 });
  const answer = await server.request("POST", "/sessions/start-and-wait", { task_id: "hello" });
  expect(answer.status).toBe(503);
  expect((await server.request("GET", "/sessions")).body.sessions).toEqual([]);
  await server.stop();
});

describe("a subscriber that stops reading", () => {
  it("is disconnected, so that what it was sent does not stay in memory", async () => {
    const bus = createMemoryBus();
    const closing = new AbortController();
    const hub = new StreamHub(bus, closing.signal, {
      maxStreams: 10,
      maxStreamsPerActor: 10,
      maxStalledMs: 50,
    });
    const app = Fastify();
    app.get("/", (request, reply) =>
      hub.stream(
        { actor: { kind: "anonymous", label: "test" }, request, reply, stillAllowed: async () => true },
        {
          topic: "t",
          event: "e",
          cursor: 0,
          keepAliveMs: 1000,
          next: async (cursor) => ({
            frames: [{ id: cursor + 1, data: "x".repeat(1024 * 1024) }],
            full: true,
            ended: false,
          }),
        },
      ),
    );
    await app.listen({ host: "127.0.0.1", port: 0 });
    const gone = new Promise<void>((resolve) => {
      app.server.once("connection", (socket) => socket.once("close", () => resolve()));
    });
    const socket = connect((app.server.address() as AddressInfo).port, "127.0.0.1");
    socket.pause();
    await once(socket, "connect");
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await gone;
    socket.destroy();
    closing.abort();
    await hub.drained();
    await app.close();
    await bus.close();
  });
});
