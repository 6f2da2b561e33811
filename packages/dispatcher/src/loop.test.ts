import pino from "pino";
import { expect, test } from "vitest";
import { LoopRunner } from "./loop.ts";

const logger = pino({ level: "silent" });

test("whole pages follow each other; an error does not end the loop; stop waits for the page under way", async () => {
  const answers = [true, true, false, "error", false] as const;
  let pages = 0;
  let underWay = 0;
  const enough = Promise.withResolvers<void>();
  const runner = new LoopRunner(
    {
      name: "test",
      intervalMs: 1,
      runPage: async () => {
        underWay += 1;
        expect(underWay).toBe(1);
        await new Promise((resolve) => setImmediate(resolve));
        underWay -= 1;
        const answer = answers[pages] ?? false;
        pages += 1;
        if (pages > answers.length) enough.resolve();
        if (answer === "error") throw new Error("database away");
        return answer;
      },
    },
    logger,
  );
  runner.start();
  await enough.promise;
  await runner.stop();
  const after = pages;
  expect(underWay).toBe(0);
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(pages).toBe(after);
});
