import { expect, test } from "vitest";
import { Batcher } from "./batcher.ts";

test("calls that come while a batch is under way are the next batch", async () => {
  const batches: number[][] = [];
  const batcher = new Batcher<number, number>({
    run: async (inputs) => {
      batches.push([...inputs]);
      return inputs.map((input) => input * 2);
    },
    maxBatch: 3,
    concurrency: 1,
  });
  expect(await Promise.all([1, 2, 3, 4, 5].map((input) => batcher.call(input)))).toEqual([2, 4, 6, 8, 10]);
  expect(batches).toEqual([[1], [2, 3, 4], [5]]);
});

test("one bad call fails alone", async () => {
  const batcher = new Batcher<number, number>({
    run: async (inputs) => {
      if (inputs.includes(3)) throw new Error("three");
      return [...inputs];
    },
    maxBatch: 10,
    concurrency: 1,
  });
  const results = await Promise.allSettled([1, 2, 3, 4].map((input) => batcher.call(input)));
  expect(results.map((result) => result.status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
});
