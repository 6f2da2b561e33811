/** Queues from the command line: what is sent, and what is printed. */
import { expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { scriptedServer } from "./support/scripted-server.ts";

const queue = (more: object = {}) => ({
  name: "task/report",
  concurrency_limit: 5,
  paused: false,
  declared: true,
  queued: 12,
  running: 5,
  waiting: 3,
  oldest_queued_at: "2026-06-06T12:00:00.000Z",
  ...more,
});
const paused = queue({ paused: true, paused_at: "2026-06-06T12:00:00.000Z" });

it("list shows limit, state and counts", async () => {
  const gone = queue({ name: "old", concurrency_limit: null, declared: false, paused: true, queued: 0 });
  await using server = await scriptedServer({ "GET /queues": { json: { queues: [queue(), gone] } } });
  const { out, exitCode } = await helmr(["queue", "list"], { url: server.url });
  expect(exitCode).toBe(0);
  const [first, second] = out.split("\n").map((line) => line.split("\t"));
  expect(first).toEqual(["task/report", "open", "5", "12", "5", "3", "2026-06-06T12:00:00.000Z"]);
  expect(second?.slice(0, 4)).toEqual(["old", "paused, not deployed", "none", "0"]);
  const json = await helmr(["queue", "list", "--json"], { url: server.url });
  expect(JSON.parse(json.out)).toEqual({ queues: [queue(), gone] });
});

it("pause and resume name the queue in the path, also one with slashes, and say what became of it", async () => {
  await using server = await scriptedServer({
    "POST /queues/task%2Freport/pause": { json: paused },
    "POST /queues/task%2Freport/resume": { json: queue() },
  });
  const held = await helmr(["queue", "pause", "task/report"], { url: server.url });
  expect(held.exitCode).toBe(0);
  expect(held.err).toContain("queue task/report is paused: 12 queued, 5 running, 3 waiting");
  const open = await helmr(["queue", "resume", "task/report"], { url: server.url });
  expect(open.err).toContain("queue task/report is open");
  const json = await helmr(["queue", "pause", "task/report", "--json"], { url: server.url });
  expect(JSON.parse(json.out)).toEqual(paused);
});

it("a queue that is not there, or none, is an error", async () => {
  await using server = await scriptedServer({
    "POST /queues/nothing/pause": { status: 404, json: { error: "queue not found" } },
  });
  const missing = await helmr(["queue", "pause", "nothing"], { url: server.url });
  expect(missing.exitCode).not.toBe(0);
  expect(missing.err).toContain("queue not found");
  expect(await helmr(["queue", "pause"], { url: server.url })).toMatchObject({ exitCode: 2 });
});
