import { expect, test } from "vitest";
import { unreadRegistry } from "./registry.ts";
import { type WorkSample, watchWork } from "./work-metrics.ts";

const sample = (depth: number, workerGroup = "default"): WorkSample => ({
  queues: [{ kind: "run", workerGroup, depth, oldestSeconds: 4 }],
  runs: { queued: depth, running: 1, waiting: 2 },
  parkedRuns: 2,
  workers: [{ state: "active", count: 3 }],
  schedules: { due: 0, oldestDueSeconds: 0 },
});

test("many scrapes cost one sample, also those that come while it is taken", async () => {
  const registry = unreadRegistry();
  let samples = 0;
  watchWork(registry, {
    sample: async () => {
      samples += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return sample(samples);
    },
    onError: () => undefined,
  });
  const scrapes = await Promise.all(Array.from({ length: 10 }, () => registry.metrics()));
  scrapes.push(await registry.metrics());
  expect(samples).toBe(1);
  for (const scrape of scrapes) {
    expect(scrape).toContain('helmr_queue_depth{kind="run",worker_group="default"} 1\n');
    expect(scrape).toContain('helmr_queue_oldest_age_seconds{kind="run",worker_group="default"} 4\n');
    expect(scrape).toContain('helmr_runs{status="waiting"} 2\n');
    expect(scrape).toContain("helmr_runs_parked 2\n");
    expect(scrape).toContain('helmr_workers{state="active"} 3\n');
    expect(scrape).toContain("helmr_schedule_lag_seconds 0\n");
  }
});

test("a group that is gone is shown no more; a sample that fails leaves its figures out and is counted", async () => {
  const registry = unreadRegistry();
  const answers: (() => WorkSample)[] = [
    () => sample(1, "old"),
    () => sample(2, "new"),
    () => {
      throw new Error("database away");
    },
    () => sample(3, "new"),
  ];
  const errors: unknown[] = [];
  watchWork(registry, {
    sample: async () => (answers.shift() ?? (() => sample(9)))(),
    onError: (error) => errors.push(error),
    everyMs: 0,
  });
  await registry.metrics();
  const second = await registry.metrics();
  expect(second).toContain('worker_group="new"} 2');
  expect(second).not.toContain('worker_group="old"');
  const third = await registry.metrics();
  expect(third).not.toContain("helmr_queue_depth{");
  expect(third).toContain("helmr_work_sample_errors_total 1\n");
  expect(errors).toHaveLength(1);
  expect(await registry.metrics()).toContain('worker_group="new"} 3');
});
