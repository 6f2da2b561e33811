import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { createMemoryBus } from "./memory-bus.ts";

const settled = async () => {
  await nextTurn();
  await nextTurn();
};

test("publishes of one turn are one delivery, after the publisher's step", async () => {
  const bus = createMemoryBus();
  let calls = 0;
  bus.subscribe("run:1", () => {
    calls += 1;
  });
  bus.publish("run:1");
  bus.publish("run:1");
  bus.publish("run:2");
  expect(calls).toBe(0);
  await settled();
  expect(calls).toBe(1);
  bus.publish("run:1");
  await settled();
  expect(calls).toBe(2);
});

test("a publish from a listener is delivered again", async () => {
  const bus = createMemoryBus();
  let calls = 0;
  bus.subscribe("a", () => {
    calls += 1;
    if (calls === 1) bus.publish("a");
  });
  bus.publish("a");
  await settled();
  expect(calls).toBe(2);
});

test("a listener that throws is reported, the others are called", async () => {
  const reported: unknown[] = [];
  const bus = createMemoryBus({
    onListenerError: (error, topic) => reported.push([topic, (error as Error).message]),
  });
  let called = false;
  bus.subscribe("a", () => {
    throw new Error("bad");
  });
  bus.subscribe("a", () => {
    called = true;
  });
  bus.publish("a");
  await settled();
  expect(reported).toEqual([["a", "bad"]]);
  expect(called).toBe(true);
});

test("after unsubscribe and after close nothing is called", async () => {
  const bus = createMemoryBus();
  const calls: string[] = [];
  const first = bus.subscribe("a", () => calls.push("first"));
  const second = bus.subscribe("a", () => calls.push("second"));
  first.unsubscribe();
  first.unsubscribe();
  bus.publish("a");
  await settled();
  expect(calls).toEqual(["second"]);
  bus.publish("a");
  await bus.close();
  bus.publish("a");
  second.unsubscribe();
  await settled();
  expect(calls).toEqual(["second"]);
});
