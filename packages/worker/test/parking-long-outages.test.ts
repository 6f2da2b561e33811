/**
 * Control plane or PostgreSQL is away for longer than a lease, or a lease never reached its worker: the run is leased again,
 * goes on from its checkpoint if it has one, and never has two guests at once. Shorter outages, at every step:
 * parking-outages.test.ts.
 */
import type { IncomingMessage } from "node:http";
import type { Guest, Isolation, PreparedRestore } from "@helmr/isolation";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DebugPoint } from "../src/index.ts";
import { MortalParts } from "./support/mortal-parts.ts";
import { recordingTasks } from "./support/recording-tasks.ts";
import { type StartedRun, System } from "./support/system.ts";

const leaseDurationMs = 4_000;
const longMs = leaseDurationMs + 1_500;
const shortMs = 100;

let system: System;
let parts: MortalParts;
let before: string[];
const actions = new Map<DebugPoint, () => Promise<void>>();
const guests = new Set<Guest>();
let mostGuests = 0;

beforeAll(async () => {
  system = await System.start({
    leaseDurationMs,
    parts: async ({ dir, ...settings }) => {
      parts = await MortalParts.start(dir, settings);
      return parts;
    },
  });
  for (let count = 0; count < 2; count += 1) {
    await system.worker({
      wrapIsolation: counted,
      onDebugPoint: async (point) => {
        const action = actions.get(point);
        actions.delete(point);
        await action?.();
      },
    });
  }
  await system.deploy(recordingTasks);
  before = (await system.stored()).sort();
});
afterAll(() => system.stop());

/** Notes which guests are up, of all workers. */
function counted(isolation: Isolation): Isolation {
  const note = async (starting: Promise<Guest>) => {
    const guest = await starting;
    guests.add(guest);
    mostGuests = Math.max(mostGuests, guests.size);
    void guest.exited.then(() => guests.delete(guest));
    return guest;
  };
  return new Proxy(isolation, {
    get(target, name) {
      if (name === "start") return (...args: Parameters<Isolation["start"]>) => note(target.start(...args));
      if (name === "prepareRestore") {
        return async (...args: Parameters<Isolation["prepareRestore"]>): Promise<PreparedRestore> => {
          const prepared = await target.prepareRestore(...args);
          return {
            restore: (checkpoint) => note(prepared.restore(checkpoint)),
            release: () => prepared.release(),
          };
        };
      }
      const value = Reflect.get(target, name) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

interface Expected {
  /** How often the task began from its begin. */
  readonly starts: number;
  readonly leases: number;
}

/** The second attempt ends it in every case: a lease that is lost before the park makes a new one, after it none. */
async function expectWhole(run: StartedRun, { starts, leases }: Expected): Promise<void> {
  const { status, output, failure } = await system.finished(run);
  expect({ status, failure }).toEqual({ status: "succeeded", failure: null });
  expect(output).toMatchObject({ count: 2, answer: "yes" });
  const records = await system.records(run, "record");
  expect(records.map(({ sequence }) => sequence)).toEqual(records.map((_, index) => index + 1));
  const data = records.map((record) => JSON.parse(String(record.data)));
  expect(data.map(({ step }) => step)).toEqual([...Array(starts).fill("begun"), "answered"]);
  expect(new Set(data.map(({ start }) => start)).size).toBe(starts);
  expect(data.slice(-2).map(({ start }) => start)).toEqual([output.start, output.start]);
  expect(await system.stdout(run)).toBe(`${"begun\n".repeat(starts)}answered\n`);
  expect((await system.row(run)).attempt_number).toBe(2);
  expect(await system.waits(run)).toHaveLength(starts);

  const events = await system.events(run);
  expect(events.map(({ seq }) => seq)).toEqual(events.map((_, index) => index + 1));
  const kinds = events.map(({ kind }) => kind);
  expect(kinds.filter((kind) => kind === "run.completed")).toHaveLength(1);
  expect(kinds.at(-1)).toBe("run.completed");
  const held = events.flatMap(({ lease }) => lease ?? []);
  expect(held.filter((lease, index) => lease !== held[index - 1])).toHaveLength(leases);
  expect(mostGuests).toBe(1);
  await expect.poll(async () => (await system.stored()).sort(), { timeout: 60_000 }).toEqual(before);
}

it.each([
  ["the control plane", "park.saved", "resume.answered"],
  ["PostgreSQL", "park.stored", "resume.started"],
] as const)("%s is away for longer than a lease from %s, and from %s", async (mortal, first, second) => {
  mostGuests = 0;
  const whileParking = parts.outage(mortal, longMs);
  actions.set(first, whileParking.begin);
  const run = await system.run("records");
  await whileParking.over;
  // The guest that was not recorded is gone with its lease: the run starts again.
  const token = await system.awaitedToken(run, 2);
  await system.parked(run);
  const whileResuming = parts.outage(mortal, longMs);
  actions.set(second, whileResuming.begin);
  await system.complete(token, "yes");
  await whileResuming.over;
  await expectWhole(run, { starts: 2, leases: 4 });
});

it("the control plane dies with the answer that gives the run away, before and after its park", async () => {
  mostGuests = 0;
  const empty = JSON.stringify({ runs: [], builds: [], materializations: [] }).length;
  const isGivenAway = (path: string, { headers }: IncomingMessage) =>
    path.endsWith("/v1/lease") && Number(headers["content-length"]) > empty;
  const first = parts.outageAfter("the control plane", shortMs, isGivenAway);
  const run = await system.run("records");
  await first;
  await system.parked(run);
  const again = parts.outageAfter("the control plane", shortMs, isGivenAway);
  await system.complete(await system.awaitedToken(run), "yes");
  await again;
  await expectWhole(run, { starts: 1, leases: 4 });
});
