/** Schedules from the command line: what is sent, and what is printed. */
import { expect, it } from "vitest";
import { helmr } from "./support/helmr.ts";
import { scriptedServer } from "./support/scripted-server.ts";
import { run } from "./support/wire.ts";

const id = "01990000-0000-7000-8000-000000000044";
const at = "2026-06-06T12:00:00.000Z";
const schedule = (more: object = {}) => ({
  id,
  type: "imperative",
  project_id: "p",
  environment_id: "e",
  task: "report",
  deduplication_key: "nightly",
  cron: "0 3 * * *",
  timezone: "Europe/Berlin",
  active: true,
  status: "active",
  next_fire_at: at,
  created_at: at,
  updated_at: at,
  ...more,
});
const bodyOf = (asked: { body: Buffer } | undefined) =>
  JSON.parse(asked?.body.toString() || "null") as unknown;
const path = `/schedules/${id}`;

it("create sends what it is given, and shows the schedule", async () => {
  await using server = await scriptedServer({ "POST /schedules": { status: 201, json: schedule() } });
  const words = ["schedule", "create", "nightly", "--task", "report", "--cron", "0 3 * * *"];
  const result = await helmr(words, { url: server.url });
  expect(result).toMatchObject({ exitCode: 0 });
  expect(result.out).toContain("0 3 * * * (Europe/Berlin)");
  expect(bodyOf(server.asked[0])).toEqual({
    deduplication_key: "nightly",
    task: "report",
    cron: "0 3 * * *",
    options: {},
  });
  const more = [
    ...["--timezone", "Europe/Berlin", "--external-id", "x", "--queue", "q", "--concurrency-key", "k"],
    ...["--priority", "-2", "--ttl", "10m", "--max-duration", "10m", "--inactive", "--json"],
  ];
  const json = await helmr([...words, ...more], { url: server.url });
  expect(JSON.parse(json.out)).toEqual(schedule());
  expect(bodyOf(server.asked[1])).toEqual({
    deduplication_key: "nightly",
    task: "report",
    cron: "0 3 * * *",
    timezone: "Europe/Berlin",
    external_id: "x",
    active: false,
    options: {
      queue: { name: "q" },
      concurrency_key: "k",
      priority: -2,
      ttl: "10m",
      max_duration_seconds: 600,
    },
  });
});

it.each([
  [["schedule", "create", "nightly", "--task", "report"], "--cron"],
  [["schedule", "create", "nightly", "--cron", "* * * * *"], "--task"],
  [["schedule", "get"], "schedule"],
])("%j is a mistake in the command line", async (words, says) => {
  await using server = await scriptedServer({});
  const result = await helmr(words, { url: server.url });
  expect(result.exitCode).toBe(2);
  expect(result.err).toContain(says);
  expect(server.asked).toEqual([]);
});

it("update keeps what is not given, and replaces the options", async () => {
  await using server = await scriptedServer({
    [`GET ${path}`]: { json: schedule({ external_id: "mine" }) },
    [`PUT ${path}`]: { json: schedule({ cron: "30 3 * * *" }) },
  });
  const words = ["schedule", "update", id, "--cron", "30 3 * * *", "--priority", "5"];
  expect((await helmr(words, { url: server.url })).out).toContain("30 3 * * *");
  expect(bodyOf(server.asked[1])).toEqual({
    task: "report",
    cron: "30 3 * * *",
    timezone: "Europe/Berlin",
    external_id: "mine",
    options: { priority: 5 },
  });
});

it("list, get and runs", async () => {
  const declared = schedule({
    type: "declarative",
    deduplication_key: undefined,
    status: "errored",
    last_error: "the task is not in the current deployment",
  });
  await using server = await scriptedServer({
    "GET /schedules": { json: { schedules: [schedule(), declared] } },
    [`GET ${path}`]: { json: declared },
    "GET /runs": { json: { runs: [run({ task_id: "report" })] } },
  });
  const listed = await helmr(["schedule", "list"], { url: server.url });
  expect(listed.out).toContain(`${id}\tnightly\treport\t0 3 * * *\tEurope/Berlin\tactive\t${at}`);
  expect(listed.out).toContain("(declared)");
  const shown = await helmr(["schedule", "get", id], { url: server.url });
  expect(shown.out).toContain("the task is not in the current deployment");
  const runs = await helmr(["schedule", "runs", id, "--limit", "5"], { url: server.url });
  expect(runs.out).toContain("report");
  const query = server.asked.at(-1)?.query;
  expect([query?.get("schedule_id"), query?.get("status"), query?.get("limit")]).toEqual([id, "all", "5"]);
});

it("activate, deactivate and delete say what is done; what is not there exits with 3", async () => {
  await using server = await scriptedServer({
    [`POST ${path}/activate`]: { json: schedule() },
    [`POST ${path}/deactivate`]: { json: schedule({ active: false, status: "inactive" }) },
    [`DELETE ${path}`]: { status: 204 },
  });
  const done = async (verb: string) => (await helmr(["schedule", verb, id], { url: server.url })).err;
  expect(await done("activate")).toContain(`schedule ${id} is active`);
  expect(await done("deactivate")).toContain(`schedule ${id} is inactive`);
  expect(await done("delete")).toContain(`schedule ${id} is deleted`);
  await using other = await scriptedServer({
    [`GET ${path}`]: { status: 404, json: { error: "schedule not found" } },
  });
  expect((await helmr(["schedule", "runs", id], { url: other.url })).exitCode).toBe(3);
});
