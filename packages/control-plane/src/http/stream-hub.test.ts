import { createMemoryBus } from "@helmr/coordination";
import Fastify, { type FastifyInstance } from "fastify";
import { afterEach, beforeEach, expect, test } from "vitest";
import { StreamHub, type StreamPage } from "./stream-hub.ts";

const topic = "run:1";
const bus = createMemoryBus();
let app: FastifyInstance;
let url: string;
let closing: AbortController;
/** What is there to follow, and how often it was read. */
let items: number[];
let reads: number;
/** Reads wait for it. */
let gate: Promise<void>;
let open: number;

beforeEach(async () => {
  [items, reads, gate, open] = [[], 0, Promise.resolve(), 0];
  closing = new AbortController();
  const hub = new StreamHub(bus, closing.signal, {
    maxStreams: 100,
    maxStreamsPerActor: 100,
    onCount: (count) => {
      open = count;
    },
  });
  const next = async (cursor: number): Promise<StreamPage> => {
    reads += 1;
    const found = items.filter((id) => id > cursor); // as of now, told later
    await gate;
    const frames = found.map((id) => ({ id, data: id }));
    return { frames, full: false, ended: found.includes(99) };
  };
  app = Fastify();
  app.get<{ Querystring: { shared?: string; cursor?: string } }>("/", async (request, reply) => {
    const { shared, cursor } = request.query;
    const actor = { kind: "system", id: "test" } as never;
    const call = { actor, request, reply, stillAllowed: async () => true };
    const source = { topic, event: "item", cursor: Number(cursor ?? 0), keepAliveMs: 60_000, next };
    await hub.stream(call, { ...source, ...(shared !== undefined && { sharedAs: shared }) });
  });
  url = await app.listen({ host: "127.0.0.1", port: 0 });
});
afterEach(async () => {
  closing.abort();
  await app.close();
});

/** The ids that a follower is sent, to its end. */
async function follow(query: string): Promise<number[]> {
  const text = await (await fetch(`${url}/?${query}`)).text();
  return [...text.matchAll(/^data: (\d+)$/gm)].map(([, id]) => Number(id));
}

function publish(id: number): void {
  items.push(id);
  bus.publish(topic);
}

test("followers of one thing share their reads, and each is sent everything in order", async () => {
  const followers = Array.from({ length: 40 }, () => follow("shared=a"));
  await expect.poll(() => open).toBe(40);
  await new Promise((resolve) => setTimeout(resolve, 50)); // all of them wait
  const before = reads;
  for (const id of [1, 2, 3, 99]) {
    publish(id);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await Promise.all(followers)).toEqual(Array.from({ length: 40 }, () => [1, 2, 3, 99]));
  // Four hints, and perhaps two turns of the slow poll.
  expect(reads - before).toBeLessThan(20);
});

test("a read that began before a hint is not shared after it", async () => {
  const { promise, resolve: release } = Promise.withResolvers<void>();
  gate = promise;
  const early = follow("shared=a");
  await expect.poll(() => reads).toBe(1);
  publish(1);
  await new Promise((resolve) => setTimeout(resolve, 20)); // the hint was delivered
  const late = follow("shared=a");
  await expect.poll(() => reads).toBe(2);
  release();
  gate = Promise.resolve();
  await new Promise((resolve) => setTimeout(resolve, 50));
  publish(99);
  expect(await Promise.all([early, late])).toEqual([
    [1, 99],
    [1, 99],
  ]);
});

test("what has another name, another place or none is read by itself", async () => {
  items = [1, 2];
  const { promise, resolve: release } = Promise.withResolvers<void>();
  gate = promise;
  const followers = [
    follow("shared=a"),
    follow("shared=b"),
    follow("shared=a&cursor=1"),
    follow(""),
    follow(""),
  ];
  await expect.poll(() => reads).toBe(5);
  release();
  gate = Promise.resolve();
  publish(99);
  expect(await Promise.all(followers)).toEqual([
    [1, 2, 99],
    [1, 2, 99],
    [2, 99],
    [1, 2, 99],
    [1, 2, 99],
  ]);
});
