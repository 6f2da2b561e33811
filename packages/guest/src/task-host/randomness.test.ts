import { randomInt, randomUUID } from "node:crypto";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { prepareReseeding } from "./randomness.ts";

const native = join(import.meta.dirname, "../../native");
const original = Math.random;
afterEach(() => {
  Math.random = original;
});

describe("reseeding", () => {
  it("reseeds this machine's node, again and again", () => {
    const reseed = prepareReseeding(native);
    expect(reseed()).toEqual({ complete: true });
    expect(reseed()).toEqual({ complete: true });
    expect(new Set(Array.from({ length: 2000 }, () => randomUUID())).size).toBe(2000);
    expect(randomInt(10)).toBeLessThan(10);
  });

  it("gives another Math.random, spread evenly over [0, 1)", () => {
    const reseed = prepareReseeding(native);
    reseed();
    const first = Math.random;
    expect(first.name).toBe("random");
    const draws = Array.from({ length: 20_000 }, () => Math.random());
    expect(draws.every((draw) => draw >= 0 && draw < 1)).toBe(true);
    expect(new Set(draws).size).toBe(draws.length);
    const tenths = new Array<number>(10).fill(0);
    for (const draw of draws) tenths[Math.floor(draw * 10)] = (tenths[Math.floor(draw * 10)] ?? 0) + 1;
    // 2000 expected with a deviation of 42: ten of them are as good as never reached.
    for (const count of tenths) expect(Math.abs(count - 2000)).toBeLessThan(420);
    reseed();
    expect(Math.random).not.toBe(first);
  });

  it("leaves a Math.random of the author's alone", () => {
    const own = () => 0.5;
    Math.random = own;
    prepareReseeding(native)();
    expect(Math.random).toBe(own);
  });

  it("says so when the image's node cannot load the addon, and does the rest", () => {
    const reseed = prepareReseeding("/no/such/folder");
    expect(reseed()).toEqual({ complete: false, reason: expect.stringContaining("/no/such/folder/reseed-") });
    expect(Math.random).not.toBe(original);
  });
});
