/** Schedules end to end: declared in a project, promoted, fired into real guests; gone with the next deployment. */

import type { Run } from "@helmr/api";
import { afterAll, beforeAll, expect, it, vi } from "vitest";
import { helmr, helmrJson } from "./support/cli.ts";
import { api, stackClient, stackEnv } from "./support/client.ts";
import { deploy, writeProject } from "./support/project.ts";

const head = `import { image, sandbox, schedules } from "@helmr/sdk";
const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));
const run = async (payload, ctx) => ({
  ...payload,
  dates: [payload.timestamp, ...payload.upcoming].every((date) => date instanceof Date),
  task: ctx.task.id,
});
`;
const scheduled = `${head}
export const tick = schedules.task({ id: "tick", sandbox: box, cron: "* * * * *", run });
export const onDemand = schedules.task({ id: "on-demand", sandbox: box, run });
`;
const client = () => stackClient();
const declared = async () => (await client().schedules.list()).filter(({ type }) => type === "declarative");

/** The next minute, the jitter, and a machine that is busy. */
const limit = { timeout: 200_000, interval: 500 };
async function firstRun(scheduleId: string): Promise<Run> {
  const newest = async () =>
    (await api<{ runs: Run[] }>("GET", `/runs?status=all&schedule_id=${scheduleId}`)).body.runs.at(-1);
  await vi.waitUntil(async () => (await newest()) !== undefined, limit);
  return (await newest()) as Run;
}

const isoTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000Z$/);
const outputOf = (scheduleId: string, more: object) => ({
  timestamp: isoTime,
  scheduleId,
  upcoming: Array.from({ length: 10 }, () => isoTime),
  dates: true,
  ...more,
});

let byHand = "";
beforeAll(async () => {
  // Whatever was current stays for the other files: each deploys what it needs.
  expect(await declared()).toEqual([]);
});
afterAll(async () => {
  if (byHand !== "")
    await client()
      .schedules.delete(byHand)
      .catch(() => undefined);
});

it("a declared schedule and one made by hand fire, each with its payload; the next deployment removes the declared one", async () => {
  const dir = await writeProject({ "tasks/scheduled.ts": scheduled });
  const deployed = await deploy(dir);
  expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
  const [tick, ...more] = await declared();
  expect(more).toEqual([]);
  if (tick === undefined) throw new Error("the promotion made no schedule");
  expect(tick).toMatchObject({ task: "tick", cron: "* * * * *", timezone: "UTC", status: "active" });
  byHand = (
    await client().schedules.create({
      deduplicationKey: "end-to-end",
      task: "on-demand",
      cron: "* * * * *",
      timezone: "Asia/Kathmandu",
      externalId: "acme",
    })
  ).id;

  const fired = await Promise.all([firstRun(tick.id), firstRun(byHand)]);
  const ended = await Promise.all(fired.map(({ id }) => client().runs.wait(id, { timeoutMs: 180_000 })));
  expect(ended.map(({ status }) => status)).toEqual(["succeeded", "succeeded"]);
  expect(ended[0]?.output).toEqual(
    outputOf(tick.id, { scheduleType: "declarative", timezone: "UTC", task: "tick" }),
  );
  expect(ended[1]?.output).toEqual(
    outputOf(byHand, {
      scheduleType: "imperative",
      timezone: "Asia/Kathmandu",
      externalId: "acme",
      task: "on-demand",
    }),
  );
  const listed = await helmrJson<{ runs: Run[] }>(["schedule", "runs", byHand], { env: stackEnv() });
  expect(listed.runs.map(({ id }) => id)).toContain(fired[1].id);
  expect((await client().schedules.retrieve(byHand)).lastFireAt).toEqual(isoTime);

  const stopped = await helmr(["schedule", "deactivate", byHand], { env: stackEnv() });
  expect(stopped.exitCode).toBe(0);
  const without = await deploy(await writeProject({}));
  expect(without.exitCode, `${without.stdout}\n${without.stderr}`).toBe(0);
  expect(await declared()).toEqual([]);
}, 600_000);

it("a cron that cannot be: said by the author's own build, with file and field", async () => {
  for (const [cron, message] of [
    ['"61 * * * *"', /scheduled\.ts[\s\S]*"61" is no minute/],
    ['{ pattern: "0 9 * * *", timezone: "Mars/Olympus" }', /IANA time zone/],
    ['"0 0 30 2 *"', /names days that no month of it has/],
  ] as const) {
    const text = `${head}export const tick = schedules.task({ id: "tick", sandbox: box, cron: ${cron}, run });\n`;
    const result = await deploy(await writeProject({ "tasks/scheduled.ts": text }));
    expect(result.exitCode).not.toBe(0);
    expect(`${result.stdout}\n${result.stderr}`).toMatch(message);
  }
}, 600_000);
