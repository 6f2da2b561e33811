import fc from "fast-check";
import { expect, test } from "vitest";
import { type FaultKind, leaseMs, makePlan, maxTogether, type PlanOptions, planSchema } from "./plan.ts";

const options = fc.record({
  seed: fc.string({ maxLength: 12 }),
  durationMs: fc.integer({ min: 5_000, max: 900_000 }),
  store: fc.constantFrom("file" as const, "s3" as const),
  everyMs: fc.integer({ min: 500, max: 5_000 }),
  faultEveryMs: fc.integer({ min: 1_000, max: 20_000 }),
});

const given: PlanOptions = {
  seed: "1",
  durationMs: 600_000,
  store: "file",
  everyMs: 1_000,
  faultEveryMs: 3_000,
};

test("P1: the same seed makes the same plan, which a file keeps", () => {
  fc.assert(
    fc.property(options, (each) => {
      const plan = makePlan(each);
      expect(makePlan(each)).toEqual(plan);
      expect(planSchema.parse(JSON.parse(JSON.stringify(plan)))).toEqual(plan);
    }),
    { numRuns: 50 },
  );
});

test("P1: another seed makes another plan", () => {
  expect(makePlan({ ...given, seed: "2" })).not.toEqual(makePlan(given));
});

test("P2 to P4", () => {
  fc.assert(
    fc.property(options, (each) => {
      const { operations, faults, durationMs } = makePlan(each);
      expect(new Set(operations.map(({ id }) => id)).size).toBe(operations.length);
      for (const { at } of operations) expect(at).toBeLessThan(durationMs);
      for (const fault of faults) {
        expect(fault.at + fault.forMs).toBeLessThanOrEqual(durationMs);
        const together = faults.filter((other) => other.at <= fault.at && other.at + other.forMs > fault.at);
        expect(together.length).toBeLessThanOrEqual(maxTogether);
        const before = faults.filter(({ at, target }) => at < fault.at && target === fault.target);
        for (const other of before) expect(other.at + other.forMs).toBeLessThan(fault.at);
        if (fault.kind === "freeze" && fault.target.startsWith("worker"))
          expect(fault.forMs).toBeGreaterThan(leaseMs);
      }
    }),
    { numRuns: 50 },
  );
});

test("a long plan has every kind of operation, and every kind of fault that its store can have", () => {
  const long = { ...given, durationMs: 7_200_000 };
  const kinds = (store: "file" | "s3") =>
    new Set(makePlan({ ...long, store }).faults.map(({ kind }) => kind));
  expect(new Set(makePlan(long).operations.map(({ kind }) => kind)).size).toBe(10);
  expect(kinds("file").size).toBe(11);
  expect(kinds("s3").size).toBe(13);
});

test("only the kinds of faults that are asked for", () => {
  const faultKinds: FaultKind[] = ["kill", "redis-flush", "store-slow"];
  const { faults } = makePlan({ ...given, faultKinds });
  expect(new Set(faults.map(({ kind }) => kind))).toEqual(new Set(["kill", "redis-flush"]));
});
