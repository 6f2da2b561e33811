/** One contract for every live bus, in one process and between two; and what Redis may do to it. */
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { createMemoryBus, createRedisBus, type LiveBus } from "../src/index.ts";
import { redisPrograms, startRedis, type TestRedis } from "../test-support/index.ts";

const limit = { timeout: 30_000, interval: 10 };
const open: LiveBus[] = [];
const keep = (bus: LiveBus): LiveBus => {
  open.push(bus);
  return bus;
};
afterEach(async () => {
  await Promise.all(open.splice(0).map((bus) => bus.close()));
});

/** Counts what a listener hears. */
function listen(bus: LiveBus, topic: string) {
  const heard = { times: 0, unsubscribe: () => {} };
  const { unsubscribe } = bus.subscribe(topic, () => {
    heard.times += 1;
  });
  heard.unsubscribe = unsubscribe;
  return heard;
}

/** A hint may be lost while connections are made: publish until one comes. */
async function publishUntilHeard(bus: LiveBus, topic: string, heard: { times: number }): Promise<void> {
  const before = heard.times;
  await vi.waitUntil(() => {
    bus.publish(topic);
    return heard.times > before;
  }, limit);
}

function contract(create: () => { publisher: LiveBus; subscriber: LiveBus }): void {
  it("a hint reaches every subscriber of its topic, and no other", async () => {
    const { publisher, subscriber } = create();
    const [one, two, other] = ["a", "a", "b"].map((topic) => listen(subscriber, topic));
    if (!one || !two || !other) throw new Error("no listeners");
    await publishUntilHeard(publisher, "a", one);
    await vi.waitUntil(() => two.times > 0, limit);
    // What a subscriber hears without a publish is the one wake-up when its channel is there.
    expect(other.times).toBeLessThanOrEqual(1);
  });

  it("nobody hears anything after unsubscribing, or after close; unsubscribing twice is once", async () => {
    const { publisher, subscriber } = create();
    const [gone, stays] = [listen(subscriber, "a"), listen(subscriber, "a")];
    await publishUntilHeard(publisher, "a", gone);
    gone.unsubscribe();
    gone.unsubscribe();
    const times = gone.times;
    await publishUntilHeard(publisher, "a", stays);
    expect(gone.times).toBe(times);
    await subscriber.close();
    const after = stays.times;
    publisher.publish("a");
    subscriber.publish("a");
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    expect(stays.times).toBe(after);
    expect(() => subscriber.subscribe("a", () => {})).toThrow();
  });

  it("a topic may be subscribed to again", async () => {
    const { publisher, subscriber } = create();
    for (let round = 0; round < 3; round += 1) {
      const heard = listen(subscriber, "again");
      await publishUntilHeard(publisher, "again", heard);
      heard.unsubscribe();
    }
  });
}

describe("memory", () => {
  contract(() => {
    const bus = keep(createMemoryBus());
    return { publisher: bus, subscriber: bus };
  });
});

describe.each(redisPrograms)("%s", (program) => {
  let redis: TestRedis;
  const problems: string[] = [];
  const newBus = () =>
    keep(
      createRedisBus({
        url: redis.url,
        onProblem: (reason) => problems.push(reason),
        onRecovered: () => problems.push("recovered"),
      }),
    );
  beforeAll(async () => {
    redis = await startRedis(program);
  });
  afterAll(() => redis.stop());
  afterEach(() => {
    problems.length = 0;
  });

  describe("between two processes", () => {
    contract(() => ({ publisher: newBus(), subscriber: newBus() }));
  });
  describe("in one", () => {
    contract(() => {
      const bus = newBus();
      return { publisher: bus, subscriber: bus };
    });
  });

  it("killed and back: hints come again, and subscribers are woken once (I3)", async () => {
    const [publisher, subscriber] = [newBus(), newBus()];
    const heard = listen(subscriber, "a");
    await publishUntilHeard(publisher, "a", heard);
    await redis.kill();
    await vi.waitUntil(() => problems.some((problem) => problem !== "recovered"), limit);
    for (let n = 0; n < 20_000; n += 1) publisher.publish(`topic-${n}`);
    const silent = heard.times;
    const own = listen(publisher, "own");
    publisher.publish("own");
    await vi.waitUntil(() => own.times > 0, limit);
    expect(heard.times).toBe(silent);
    await redis.start();
    await vi.waitUntil(() => heard.times > silent, limit);
    await publishUntilHeard(publisher, "a", heard);
    expect(problems).toContain("recovered");
    for (const problem of problems) expect(problem).not.toContain(redis.url);
  });

  it("hung: publishing returns, subscribers of the process are told, and afterwards it goes on", async () => {
    const [publisher, subscriber] = [newBus(), newBus()];
    const heard = listen(subscriber, "a");
    await publishUntilHeard(publisher, "a", heard);
    redis.pause();
    try {
      const own = listen(publisher, "own");
      for (let n = 0; n < 5_000; n += 1) publisher.publish(`topic-${n}`);
      publisher.publish("own");
      await vi.waitUntil(() => own.times > 0, limit);
    } finally {
      redis.resume();
    }
    await publishUntilHeard(publisher, "a", heard);
  });

  it("absent: a bus can be made, used and closed", async () => {
    const bus = keep(createRedisBus({ url: "redis://127.0.0.1:1" }));
    const heard = listen(bus, "a");
    bus.publish("a");
    await vi.waitUntil(() => heard.times > 0, limit);
  });
});
