import { pino } from "pino";
import { afterEach, expect, it } from "vitest";
import { LeaseLoop } from "./lease-loop.ts";

const logger = pino({ level: "silent" });
/** One poll as it was asked: who answers it decides when. */
interface Poll {
  readonly max: number;
  readonly signal: AbortSignal;
  readonly answer: (items: readonly string[]) => void;
}
let loop: LeaseLoop<string> | undefined;
afterEach(() => loop?.drain());

function start(slots = 2) {
  const polls: Poll[] = [];
  const taken: string[] = [];
  const ends = new Map<string, () => void>();
  const made = new LeaseLoop<string>({
    slots,
    poll: (max, signal) =>
      new Promise((answer, reject) => {
        polls.push({ max, signal, answer });
        signal.addEventListener("abort", () => reject(signal.reason));
      }),
    execute: (item) => {
      taken.push(item);
      return new Promise((resolve) => ends.set(item, resolve));
    },
    logger,
  });
  loop = made;
  made.start();
  return { polls, taken, ends, loop: made };
}

it("asks for nothing while it is closed, and gives a request on its way up", async () => {
  const { polls, taken, ends, loop } = start();
  await expect.poll(() => polls.length).toBe(1);
  polls[0]?.answer(["a"]);
  await expect.poll(() => polls.length).toBe(2);
  expect(polls[1]?.max).toBe(1);
  loop.setOpen(false);
  expect(polls[1]?.signal.aborted).toBe(true);
  ends.get("a")?.();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(polls).toHaveLength(2);
  loop.setOpen(true);
  loop.setOpen(true);
  await expect.poll(() => polls.length).toBe(3);
  expect(polls[2]?.max).toBe(2);
  expect(taken).toEqual(["a"]);
});

it("ends when it is drained closed, and asks again when it is started anew and open", async () => {
  const { polls, loop } = start();
  await expect.poll(() => polls.length).toBe(1);
  loop.setOpen(false);
  await loop.drain();
  loop.start();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(polls).toHaveLength(1);
  loop.setOpen(true);
  await expect.poll(() => polls.length).toBe(2);
  await loop.drain();
  loop.start();
  await expect.poll(() => polls.length).toBe(3);
});
