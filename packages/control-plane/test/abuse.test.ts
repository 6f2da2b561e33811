/** What a caller may ask for over HTTP: rates, sizes, streams, addresses; and the headers of every answer. */
import { connect } from "node:net";
import { apiPrefix, environmentRoutePrefix, type RouteDefinition, routes } from "@helmr/api";
import { createMailer } from "@helmr/control-plane";
import { seedTask } from "@helmr/store/testing";
import { pino } from "pino";
import { afterEach, describe, expect, it, vi } from "vitest";
import { registerLiveWorker } from "./support/live-worker.ts";
import { type Answer, startTestServer, type TestServer, type TestServerOptions } from "./support/server.ts";
import { openStream } from "./support/sse.ts";
import { unlimited } from "./support/unlimited.ts";

let server: TestServer;
afterEach(() => server.stop());
const start = async (options?: TestServerOptions) => {
  server = await startTestServer(options);
};

const limit = (by: "address" | "user", max: number) => [{ by, max, windowSeconds: 3600, reason: "test" }];

/** Start a device sign-in, as a proxy says that `address` does. */
const startDevice = (address?: string) =>
  server.request("POST", "/auth/device/start", undefined, {
    key: null,
    headers: address === undefined ? {} : { "x-forwarded-for": address },
  });

function expectRefused(answer: Answer): void {
  expect(answer.status).toBe(429);
  const seconds = Number(answer.headers.get("retry-after"));
  expect(seconds).toBeGreaterThan(0);
  expect(answer.body).toEqual({ error: `too many requests; try again in ${seconds} seconds` });
}

describe("rates", () => {
  it("are counted by the address of the connection; what a client claims to be counts nothing", async () => {
    await start({ rateLimits: { device_start: limit("address", 3) } });
    for (const address of ["192.0.2.1", "192.0.2.2", "192.0.2.3"]) {
      expect((await startDevice(address)).status).toBe(201);
    }
    expectRefused(await startDevice("192.0.2.4"));
    expectRefused(await startDevice());
  });

  it("are counted by what a trusted proxy says, its own part of the list only", async () => {
    await start({ trustedProxies: ["127.0.0.1"], rateLimits: { device_start: limit("address", 2) } });
    expect((await startDevice("192.0.2.1")).status).toBe(201);
    expect((await startDevice("198.51.100.9, 192.0.2.1")).status).toBe(201);
    expectRefused(await startDevice("203.0.113.5, 192.0.2.1"));
    expect((await startDevice("192.0.2.2")).status).toBe(201);
  });

  it("are counted by the /64 of an IPv6 address", async () => {
    await start({ trustedProxies: ["127.0.0.1"], rateLimits: { device_start: limit("address", 1) } });
    expect((await startDevice("2001:db8::1")).status).toBe(201);
    expectRefused(await startDevice("2001:db8::2"));
    expect((await startDevice("2001:db8:0:1::1")).status).toBe(201);
  });

  it("are counted by user where the route is a user's, whichever of its sessions asks", async () => {
    await start({ rateLimits: { user_code: limit("user", 2) } });
    const [one, other] = [await server.newMember("viewer"), await server.newMember("viewer")];
    const guess = (key: string) =>
      server.request("GET", "/auth/device/status?user_code=AAAABBBB", undefined, { key });
    expect((await guess(one.token)).status).toBe(404);
    expect(
      (await server.request("POST", "/auth/device/approve", { user_code: "AAAABBBB" }, { key: one.token }))
        .status,
    ).toBe(404);
    expectRefused(await guess(one.token));
    expectRefused(
      await server.request("POST", "/auth/device/deny", { user_code: "AAAABBBB" }, { key: one.token }),
    );
    expect((await guess(other.token)).status).toBe(404);
  });

  it("are counted by account, however it is written and whether or not anybody has it", async () => {
    const max = 2;
    const mailer = createMailer({ kind: "log" }, pino({ level: "silent" }));
    await start({
      mailer,
      rateLimits: { sign_in_start: [{ by: "account", max, windowSeconds: 3600, reason: "test" }] },
    });
    const known = await server.newMember("viewer");
    const ask = (email: string) => server.request("POST", "/auth/magic-link/start", { email }, { key: null });
    for (const email of [known.email, "nobody@example.com"]) {
      expect((await ask(email)).status).toBe(200);
      expect((await ask(email.toUpperCase())).status).toBe(200);
      expectRefused(await ask(` ${email}`));
    }
    expect((await ask("other@example.com")).status).toBe(200);
    // Not counted: nothing was asked for.
    expect((await ask("not an address")).status).toBe(400);
  });

  it("of credentials that fail hold up neither a credential that is at work nor a malformed one's 401", async () => {
    await start({ rateLimits: { failing_credential: limit("address", 3) } });
    const list = (key: string) => server.request("GET", "/runs", undefined, { key });
    const unknown = (n: number) => `hlmr_sk_${String(n).padStart(43, "x")}`;
    expect((await list(server.key)).status).toBe(200);
    for (let n = 0; n < 3; n += 1) expect((await list(unknown(n))).status).toBe(401);
    expectRefused(await list(unknown(4)));
    expectRefused(await list(unknown(5)));
    expectRefused(await server.request("GET", "/me", undefined, { key: "y".repeat(43) }));
    expect((await list(server.key)).status).toBe(200);
    expect((await list("malformed")).status).toBe(401);
    expect((await server.request("GET", "/runs", undefined, { key: null })).status).toBe(401);
  });

  it("belong to every route that lets strangers in or takes codes", () => {
    server = { stop: async () => {} } as TestServer;
    const unlimited = Object.entries<RouteDefinition>(routes)
      .filter(([, route]) => route.access.kind === "public" && route.rateLimit === undefined)
      .map(([name]) => name);
    // Says what is configured, and reads nothing for it.
    expect(unlimited).toEqual(["listAuthProviders"]);
  });
});

describe("streams", () => {
  it("of one key or user are limited, others' are not, and an ended one makes room", async () => {
    await start({ maxStreamsPerActor: 2 });
    await seedTask(server.db, server.scope, { taskId: "hello" });
    const { body } = await server.request("POST", "/sessions", { task_id: "hello" });
    const path = `/runs/${body.run.id}/events?follow=1`;
    const streams = await Promise.all(
      [1, 2].map(() => openStream(`${server.url}${apiPrefix}${path}`, server.key)),
    );
    expect(streams.map(({ response }) => response.status)).toEqual([200, 200]);
    expectRefused({ ...(await server.request("GET", path)) });
    const member = await server.newMember("viewer");
    const other = await openStream(`${server.url}${apiPrefix}${server.prefix}${path}`, member.token);
    expect(other.response.status).toBe(200);
    await streams[0]?.close();
    let again = await openStream(`${server.url}${apiPrefix}${path}`, server.key);
    await vi.waitUntil(
      async () => {
        if (again.response.status === 200) return true;
        again = await openStream(`${server.url}${apiPrefix}${path}`, server.key);
        return again.response.status === 200;
      },
      { timeout: 30_000, interval: 100 },
    );
    await Promise.all([...streams, other, again].map((stream) => stream.close()));
  });

  it("and requests that wait for a live copy are counted alike: one key's do not keep out others'", async () => {
    await start({ maxStreamsPerActor: 2, rateLimits: unlimited });
    await seedTask(server.db, server.scope);
    const worker = await registerLiveWorker(server);
    const { body } = await server.request("POST", "/workspaces", { sandbox_id: "box" });
    const path = `/workspaces/${body.workspace.id}`;
    await server.request("POST", `${path}/materialize`, {});
    const copy = await worker.bringUp();
    await server.request("POST", `${path}/stop`, {});
    const exec = () => server.request("POST", `${path}/execs`, { command: ["true"] });
    const waiting = [exec(), exec(), exec()];
    expectRefused(await Promise.race(waiting));
    const member = await server.newMember("developer");
    const request = { key: member.token };
    const others = server.request("POST", `${server.prefix}${path}/execs`, { command: ["true"] }, request);
    await copy.finish({ status: "stopped" });
    const statuses = (await Promise.all([...waiting, others])).map(({ status }) => status);
    // One of them got the writer's place, the others were told so.
    expect(statuses.sort()).toEqual([201, 409, 409, 429]);
  });
});

describe("sizes", () => {
  it("a public route takes 64 KiB, others what the API takes", async () => {
    await start();
    const large = JSON.stringify({ device_code: "x".repeat(70 * 1024) });
    const refused = await server.request("POST", "/auth/device/token", undefined, { raw: large, key: null });
    expect(refused).toMatchObject({ status: 413, body: { error: "request is too large" } });
    // Also a body that is not looked at.
    expect(
      (await server.request("POST", "/auth/device/start", undefined, { raw: large, key: null })).status,
    ).toBe(413);
    const payload = { task_id: "hello", payload: "x".repeat(3 * 1024 * 1024) };
    expect((await server.request("POST", "/sessions", payload)).status).toBe(409);
  });

  it("a body is refused for its depth before it is parsed, whatever the route; brackets in strings do not count", async () => {
    await start();
    const nested = (depth: number) => `${'{"a":'.repeat(depth)}[]${"}".repeat(depth)}`;
    for (const [method, path] of [
      ["POST", "/sessions"],
      ["PUT", "/secrets/NAME"],
    ] as const) {
      const answer = await server.request(method, path, undefined, { raw: nested(200_000) });
      expect(answer).toMatchObject({
        status: 400,
        body: { error: expect.stringContaining("nested deeper than") },
      });
    }
    const value = '\\"[{'.repeat(1000);
    expect((await server.request("PUT", "/secrets/NAME", { value })).status).toBe(200);
    expect((await server.request("POST", "/sessions", { task_id: "hello", payload: value })).status).toBe(
      409,
    );
  });

  it("headers that are too large are answered with 431 and the error envelope", async () => {
    await start();
    const { port } = new URL(server.url);
    const answer = await new Promise<string>((resolve, reject) => {
      let text = "";
      const socket = connect(Number(port), "127.0.0.1", () =>
        socket.write(`GET /api/runs HTTP/1.1\r\nHost: a\r\nX-Large: ${"x".repeat(17 * 1024)}\r\n\r\n`),
      );
      socket.on("data", (data) => {
        text += data.toString();
      });
      socket.once("close", () => resolve(text));
      socket.once("error", reject);
    });
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n")))).toEqual({ error: expect.any(String) });
  });
});

describe("headers", () => {
  const expected = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  };

  it("that protect are on every answer, and https is remembered where it is the public URL", async () => {
    await start({ publicUrl: "https://helmr.example.com" });
    for (const path of [
      "/healthz",
      "/readyz",
      "/api/openapi.json",
      "/api/runs",
      "/api/nothing",
      "/nothing",
    ]) {
      const { headers } = await fetch(`${server.url}${path}`);
      for (const [name, value] of Object.entries(expected))
        expect(headers.get(name), `${name} of ${path}`).toBe(value);
      expect(headers.get("strict-transport-security")).toBe("max-age=31536000");
    }
  });

  it("of CORS are on the browser routes' answers only, and for our own origin only (contract 1.6)", async () => {
    const browserRoutes = new Set([
      "/v1/tokens/:tokenID/complete",
      "/v1/sessions/:sessionID/inputs/:stream",
      "/v1/sessions/by-external-id/inputs/:stream",
      "/v1/sessions/:sessionID/outputs/:stream/read",
      "/v1/sessions/by-external-id/outputs/:stream/read",
    ]);
    await start();
    const { origin } = new URL(server.publicUrl);
    for (const route of Object.values<RouteDefinition>(routes)) {
      const prefixes = route.access.kind === "environment-member" ? [] : [apiPrefix];
      if (route.access.kind.startsWith("environment")) prefixes.push(environmentRoutePrefix);
      for (const prefix of prefixes) {
        const url = `${server.url}${`${prefix}${route.path}`.replaceAll(/:[A-Za-z]+/g, "x")}`;
        for (const from of [origin, "https://evil.example", "null"]) {
          const asked = { origin: from, "access-control-request-method": route.method };
          for (const [method, headers] of [
            ["OPTIONS", asked],
            [route.method, { origin: from }],
          ] as const) {
            const response = await fetch(url, { method, headers });
            await response.arrayBuffer();
            const cors = [...response.headers.keys()].filter((name) => name.startsWith("access-control-"));
            const isOurs = browserRoutes.has(route.path) && from === origin;
            expect(cors.length > 0, `${method} ${url} from ${from}`).toBe(isOurs);
            if (method === "OPTIONS") expect(response.status).toBe(browserRoutes.has(route.path) ? 204 : 404);
          }
        }
      }
    }
  });

  it("also of a stream: the ones that protect are there", async () => {
    await start({ publicUrl: "https://helmr.example.com" });
    await seedTask(server.db, server.scope, { taskId: "hello" });
    const { body } = await server.request("POST", "/sessions", { task_id: "hello" });
    const stream = await openStream(
      `${server.url}${apiPrefix}/runs/${body.run.id}/events?follow=1`,
      server.key,
    );
    expect(stream.response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(stream.response.headers.get("strict-transport-security")).toBe("max-age=31536000");
    await stream.close();
  });
});
