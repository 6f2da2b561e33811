/**
 * Control plane or PostgreSQL alone is killed at every step of parking and resuming, and with every answer that it had just
 * given: the worker goes on when it is back, and nobody can tell from the run's record that it was away. Outages that are
 * longer than a lease: parking-long-outages.test.ts.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DebugPoint, debugPoints } from "../src/index.ts";
import { type Mortal, MortalParts } from "./support/mortal-parts.ts";
import { recordingTasks } from "./support/recording-tasks.ts";
import { type StartedRun, System } from "./support/system.ts";

/** Long enough that the worker's next requests fail. */
const awayMs = 300;
const mortals = ["the control plane", "PostgreSQL"] as const;

let system: System;
let parts: MortalParts;
let before: string[];
const actions = new Map<DebugPoint, () => Promise<void>>();

beforeAll(async () => {
  system = await System.start({
    parts: async ({ dir, ...settings }) => {
      parts = await MortalParts.start(dir, settings);
      return parts;
    },
  });
  await system.worker({
    onDebugPoint: async (point) => {
      const action = actions.get(point);
      actions.delete(point);
      await action?.();
    },
  });
  await system.deploy(recordingTasks);
  before = (await system.stored()).sort();
});
afterAll(() => system.stop());

/** The worker goes on at once: its next request finds nobody. */
function outageAt(mortal: Mortal, point: DebugPoint): Promise<void> {
  const { begin, over } = parts.outage(mortal, awayMs);
  actions.set(point, begin);
  return over;
}

function outageAfter(mortal: Mortal, request: string): Promise<void> {
  const pattern = new RegExp(`/leases/[^/]+${request}$`);
  return parts.outageAfter(mortal, awayMs, (path) => pattern.test(path));
}

async function expectUnharmed(run: StartedRun): Promise<void> {
  const { status, output, failure } = await system.finished(run);
  expect({ status, failure }).toEqual({ status: "succeeded", failure: null });
  const records = await system.records(run, "record");
  expect(records.map(({ sequence }) => sequence)).toEqual([1, 2]);
  const [begun, answered] = records.map(({ data }) => JSON.parse(String(data)));
  expect(begun).toEqual({ step: "begun", count: 1, start: output.start });
  expect(answered).toEqual({ step: "answered", count: 2, start: output.start });
  expect(output).toEqual({ start: begun.start, count: 2, answer: "yes" });
  expect(await system.stdout(run)).toBe("begun\nanswered\n");

  const events = await system.events(run);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  const kinds = events.map(({ kind }) => kind);
  const times = (kind: string) => kinds.filter((each) => each === kind).length;
  expect([times("run.parked"), times("run_lease.leased"), times("run.completed")]).toEqual([1, 2, 1]);
  expect(kinds.at(-1)).toBe("run.completed");
  expect((await system.row(run)).attempt_number).toBe(1);
  expect(await system.waits(run)).toHaveLength(1);
  await expect.poll(async () => (await system.stored()).sort(), { timeout: 60_000 }).toEqual(before);
}

/** The answer to this may be lost with whoever is killed: whether it was done, the run tells. */
async function answer(run: StartedRun): Promise<void> {
  const token = await system.awaitedToken(run);
  await system.request("POST", `/tokens/${token}/complete`, { data: "yes" }).catch(() => undefined);
}

/** Each point once: a run has an outage while it is parked and, most of them, one while it is resumed. */
const parking = debugPoints.filter((point) => point.startsWith("park."));
const resuming = debugPoints.filter((point) => point.startsWith("resume."));
const steps = parking.map((first, index) => ({ first, second: resuming[index] }));

/** Requests by the end of their path, before and after the park. */
const answers = [
  { first: "/tokens", second: "/start" },
  { first: "/waits", second: "/streams/append" },
  { first: "/append", second: "/finish" },
  { first: "/park", second: undefined },
];

const titled = <Case extends { first: string; second: string | undefined }>(cases: readonly Case[]) =>
  cases.map((each) => ({ ...each, title: [each.first, each.second].filter(Boolean).join(" and ") }));

describe.each(mortals)("%s is killed at", (mortal) => {
  it.each(titled(steps))("$title", async ({ first, second }) => {
    const whileParking = outageAt(mortal, first);
    const run = await system.run("records");
    await whileParking;
    await system.parked(run);
    const whileResuming = second && outageAt(mortal, second);
    await answer(run);
    await whileResuming;
    await expectUnharmed(run);
  });
});

/** For PostgreSQL some do: what was answered was committed, so it is there again. */
const answered = [
  { mortal: "the control plane", cases: answers },
  { mortal: "PostgreSQL", cases: answers.slice(2) },
] as const;

describe.each(answered)("$mortal is killed when it has answered", ({ mortal, cases }) => {
  it.each(titled(cases))("$title", async ({ first, second }) => {
    const beforePark = outageAfter(mortal, first);
    const run = await system.run("records");
    await beforePark;
    await system.parked(run);
    const afterPark = second && outageAfter(mortal, second);
    await answer(run);
    await afterPark;
    await expectUnharmed(run);
  });
});
