import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { pino } from "pino";
import { Counter } from "prom-client";
import { afterEach, expect, test } from "vitest";
import { type MetricsServer, startMetricsServer } from "./metrics-server.ts";
import { createRegistry, type MetricsRegistry } from "./registry.ts";

const logger = pino({ level: "silent" });
const listen = { host: "127.0.0.1", port: 0 };
let server: MetricsServer | undefined;

afterEach(() => server?.close());

async function start(
  ready: () => Promise<boolean> | boolean = () => true,
  registry: MetricsRegistry = createRegistry("helmr-test"),
) {
  server = await startMetricsServer({ listen, registry, ready, logger });
  const { url } = server;
  return async (path: string, init?: RequestInit) => {
    const response = await fetch(url + path, init);
    return {
      status: response.status,
      type: response.headers.get("content-type"),
      body: await response.text(),
    };
  };
}

test("the process's figures and its version, as Prometheus reads them", async () => {
  const get = await start();
  const { status, type, body } = await get("/metrics");
  expect(status).toBe(200);
  expect(type).toMatch(/^text\/plain; version=0\.0\.4/);
  expect(body).toMatch(
    /^helmr_build_info\{service="helmr-test",version="\d+\.\d+\.\d+",node_version="v\d+.*"\} 1$/m,
  );
  expect(body).toMatch(/^process_resident_memory_bytes \d+$/m);
  expect(body).toContain("nodejs_eventloop_lag_p99_seconds");
});

test("health says that the process answers, readiness whether it can work", async () => {
  let isReady = false;
  const get = await start(() => isReady);
  expect(await get("/healthz")).toMatchObject({ status: 200, body: '{"status":"ok"}' });
  expect(await get("/readyz")).toMatchObject({ status: 503, body: '{"status":"not_ready"}' });
  isReady = true;
  expect(await get("/readyz")).toMatchObject({ status: 200, body: '{"status":"ready"}' });
});

test("who cannot say whether it is ready is not, and who says nothing is not within the limit", async () => {
  const failing = await start(() => Promise.reject(new Error("no database")));
  expect((await failing("/readyz")).status).toBe(503);
  await server?.close();
  const silent = await start(() => new Promise<boolean>(() => undefined));
  expect((await silent("/readyz")).status).toBe(503);
});

test("scrapes that come together cost one rendering", async () => {
  const registry = createRegistry("helmr-test");
  let collected = 0;
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  new Counter({
    name: "helmr_test_total",
    help: "of this test",
    registers: [registry],
    collect: async () => {
      collected += 1;
      await gate;
    },
  });
  const get = await start(() => true, registry);
  const scrapes = Array.from({ length: 5 }, () => get("/metrics"));
  // An answer of the same server: the five have come.
  await expect.poll(async () => (await get("/healthz")).status === 200 && collected).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, 50));
  open();
  expect((await Promise.all(scrapes)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  expect(collected).toBe(1);
});

test("a figure that cannot be had is an error of the scrape, and tells nothing of it", async () => {
  const registry = createRegistry("helmr-test");
  new Counter({
    name: "helmr_test_total",
    help: "of this test",
    registers: [registry],
    collect: () => Promise.reject(new Error("postgres://user:password@host")),
  });
  const get = await start(() => true, registry);
  expect(await get("/metrics")).toMatchObject({ status: 500, body: "internal server error\n" });
});

test("nothing else is there", async () => {
  const get = await start();
  expect((await get("/")).status).toBe(404);
  expect((await get("/constructor")).status).toBe(404);
  expect((await get("/metrics", { method: "POST", body: "x".repeat(1000) })).status).toBe(405);
  expect(await get("/metrics", { method: "HEAD" })).toMatchObject({ status: 200, body: "" });
});

test("an address that is taken is refused with the variable's name", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const { port } = other.address() as AddressInfo;
  try {
    await expect(
      startMetricsServer({
        listen: { host: "127.0.0.1", port },
        registry: createRegistry("helmr-test"),
        ready: () => true,
        logger,
      }),
    ).rejects.toThrow(/^HELMR_METRICS_LISTEN: 127\.0\.0\.1:\d+ is in use/);
  } finally {
    await new Promise((resolve) => other.close(resolve));
  }
});
