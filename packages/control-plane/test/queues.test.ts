/** Queues over HTTP: what is shown, names with slashes, and that a held queue takes in what starts. */
import { seedTask } from "@helmr/store/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startTestServer, type TestServer } from "./support/server.ts";

let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  await seedTask(server.db, server.scope, {
    taskId: "report",
    queueName: "team/reports",
    concurrencyLimit: 2,
  });
});
afterAll(() => server.stop());

const post = (path: string) => server.request("POST", path);
const queues = async () => (await server.request("GET", "/queues")).body.queues;
const empty = { declared: true, queued: 0, running: 0, waiting: 0 };

test("a queue is listed with its limit, and held by its name in the path", async () => {
  const open = { name: "team/reports", concurrency_limit: 2, paused: false, ...empty };
  expect(await queues()).toEqual([open]);
  const paused = await post("/queues/team%2Freports/pause");
  expect(paused).toMatchObject({
    status: 200,
    body: { ...open, paused: true, paused_at: expect.any(String) },
  });
  expect(await queues()).toEqual([paused.body]);
  // What starts is queued still.
  const started = await server.request("POST", "/sessions", { task_id: "report" });
  expect(started.body.run.status).toBe("queued");
  expect(await queues()).toEqual([{ ...paused.body, queued: 1, oldest_queued_at: expect.any(String) }]);
  const resumed = await post("/queues/team%2Freports/resume");
  expect(resumed).toMatchObject({ status: 200, body: { ...open, queued: 1 } });
  expect(resumed.body).not.toHaveProperty("paused_at");
});

test.each([
  ["/queues/nothing/pause", 404, "queue not found"],
  ["/queues/team%2Fother/resume", 404, "queue not found"],
  ["/queues/-x/pause", 400, "queueName"],
])("%s is %i", async (path, status, says) => {
  expect(await post(path)).toMatchObject({ status, body: { error: expect.stringContaining(says) } });
});
