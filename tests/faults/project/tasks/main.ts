/** The tasks of the fault harness: each shows one way in which a run lives. */
import { readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { queue, schedules, streams, task, timers, tokens } from "@helmr/sdk";
import { anything, box, Ledger } from "../ledger.ts";

const answers = streams.input("answers");
const few = queue({ id: "few", concurrencyLimit: 2 });
const retry = { maxAttempts: 3, backoff: { minMs: 100, maxMs: 500 } };

interface Steps {
  readonly op: string;
  readonly steps: number;
  readonly stepMs: number;
}

async function walk(ledger: Ledger, { steps, stepMs }: Steps): Promise<{ steps: number }> {
  for (let at = 1; at <= steps; at += 1) {
    await ledger.write({ at });
    await sleep(stepMs);
  }
  return { steps };
}

/** Works without waiting. */
export const steps = task({
  id: "steps",
  sandbox: box,
  payload: anything<Steps>(),
  retry,
  run: (payload, context) => walk(new Ledger(context), payload),
});

/** The same, a few at a time. */
export const limited = task({
  id: "limited",
  sandbox: box,
  queue: few,
  payload: anything<Steps>(),
  retry,
  run: (payload, context) => walk(new Ledger(context), payload),
});

/** Makes tokens, one after the other, and waits for who completes them. */
export const asks = task({
  id: "asks",
  sandbox: box,
  payload: anything<{ op: string; tokens: number }>(),
  retry,
  run: async ({ tokens: count }, context) => {
    const ledger = new Ledger(context);
    const got: unknown[] = [];
    for (let at = 1; at <= count; at += 1) {
      const token = await tokens.create({ timeout: "1h" });
      await ledger.write({ asks: token.id, at });
      const answer = await token.wait().unwrap();
      await ledger.write({ answered: token.id, answer, at });
      got.push(answer);
    }
    return got;
  },
});

/** Takes a number of records, or fewer when a run before this one took the others. */
export const listens = task({
  id: "listens",
  sandbox: box,
  payload: anything<{ op: string; inputs: number }>(),
  retry,
  run: async (_payload, context) => {
    const ledger = new Ledger(context);
    const heard: unknown[] = [];
    for (;;) {
      const said = (await answers.wait().unwrap()) as { n: number; last: boolean };
      await ledger.write({ heard: said.n });
      heard.push(said.n);
      if (said.last) return heard;
    }
  },
});

/** Sleeps, mostly longer than its guest is kept. */
export const sleeps = task({
  id: "sleeps",
  sandbox: box,
  payload: anything<{ op: string; ms: number }>(),
  retry,
  run: async ({ ms }, context) => {
    const ledger = new Ledger(context);
    await ledger.write({ at: "asleep" });
    const result = await timers.waitFor({ milliseconds: ms });
    await ledger.write({ at: "awake" });
    return result.ok;
  },
});

/** Counts in a file of its workspace: what a run before it saved is there. */
export const counts = task({
  id: "counts",
  sandbox: box,
  payload: anything<{ op: string }>(),
  retry,
  run: async (_payload, context) => {
    const ledger = new Ledger(context);
    const before = Number(await readFile("count", "utf8").catch(() => "0"));
    await writeFile("count", String(before + 1));
    await ledger.write({ count: before + 1 });
    return before + 1;
  },
});

/** Started by time. */
export const ticks = schedules.task({
  id: "ticks",
  sandbox: box,
  cron: "* * * * *",
  run: async (payload, context) => {
    const slot = payload.timestamp.toISOString();
    await new Ledger(context).write({ slot });
    return slot;
  },
});
