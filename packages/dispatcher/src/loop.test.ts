import { createDispatcherMetrics, unreadRegistry } from "@helmr/telemetry";
import pino from "pino";
import { expect, test } from "vitest";
import { LoopRunner } from "./loop.ts";

const logger = pino({ level: "silent" });

test("whole pages follow each other; an error does not end the loop; stop waits for the page under way", async () => {
  const answers = [true, true, false, "error", false] as const;
  let pages = 0;
  let underWay = 0;
  const registry = unreadRegistry();
  const enough = Promise.withResolvers<void>();
  const runner = new LoopRunner(
    {
      name: "test",
      intervalMs: 1,
      runPage: async (count) => {
        underWay += 1;
        expect(underWay).toBe(1);
        await new Promise((resolve) => setImmediate(resolve));
        underWay -= 1;
        const answer = answers[pages] ?? false;
        pages += 1;
        if (pages > answers.length) enough.resolve();
        count(3);
        if (answer === "error") throw new Error("database away");
        return answer;
      },
    },
    logger,
    createDispatcherMetrics(registry).loops,
  );
  runner.start();
  await enough.promise;
  await runner.stop();
  const after = pages;
  expect(underWay).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(pages).toBe(after);
  expect(await value(registry, "helmr_dispatcher_errors_total")).toBe(1);
  expect(await value(registry, "helmr_dispatcher_pages_total")).toBe(pages - 1);
  expect(await value(registry, "helmr_dispatcher_rows_total")).toBe(3 * pages);
  expect(await value(registry, "helmr_dispatcher_loop_behind")).toBe(0);
});

test("a loop that had more than a pass does says so, and how long ago it last did well", async () => {
  const registry = unreadRegistry();
  const passed = Promise.withResolvers<void>();
  let pages = 0;
  const runner = new LoopRunner(
    {
      name: "test",
      intervalMs: 1,
      runPage: async (count) => {
        pages += 1;
        count(2);
        if (pages > 50) passed.resolve();
        return true;
      },
    },
    logger,
    createDispatcherMetrics(registry).loops,
  );
  expect(await value(registry, "helmr_dispatcher_errors_total")).toBe(0);
  runner.start();
  await passed.promise;
  await runner.stop();
  expect(await value(registry, "helmr_dispatcher_loop_behind")).toBe(1);
  expect(await value(registry, "helmr_dispatcher_pages_total")).toBe(pages);
  expect(await value(registry, "helmr_dispatcher_rows_total")).toBe(2 * pages);
  const lag = (await value(registry, "helmr_dispatcher_loop_lag_seconds")) ?? 0;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await value(registry, "helmr_dispatcher_loop_lag_seconds")).toBeGreaterThan(lag);
});

async function value(registry: ReturnType<typeof unreadRegistry>, name: string): Promise<number | undefined> {
  return (await registry.getSingleMetric(name)?.get())?.values[0]?.value;
}
