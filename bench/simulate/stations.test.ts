import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { expect, test } from "vitest";
import { arrivals, exponential, uniform } from "./random.ts";
import { type Job, simulate } from "./stations.ts";

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

function* poisson(rate: number, serviceSeconds: number, seconds: number): Iterable<Job> {
  const random = uniform(xoroshiro128plus(7));
  for (const atSeconds of arrivals(random, rate, seconds)) {
    yield { atSeconds, demand: [exponential(random, serviceSeconds)], kind: "job" };
  }
}

test("one server, exponential service: 1 / (mu - lambda), as M/M/1 has it", () => {
  const { utilization, seconds } = simulate([{ name: "s", servers: 1 }], poisson(0.5, 1, 200_000));
  expect(utilization.get("s")).toBeCloseTo(0.5, 1);
  expect(mean(seconds.get("job") ?? [])).toBeGreaterThan(1.9);
  expect(mean(seconds.get("job") ?? [])).toBeLessThan(2.1);
});

test("three servers: Erlang's C for rho = 0.8", () => {
  const { seconds } = simulate([{ name: "s", servers: 3 }], poisson(2.4, 1, 100_000));
  // C(3, 2.4) = 0.6472; the mean is C / (3 - 2.4) + 1.
  expect(mean(seconds.get("job") ?? [])).toBeGreaterThan(2.0);
  expect(mean(seconds.get("job") ?? [])).toBeLessThan(2.16);
});

test("jobs pass stations that they do not need, and wait in order at those they do", () => {
  const stations = [
    { name: "a", servers: 1 },
    { name: "b", servers: 2 },
  ];
  const { utilization, seconds } = simulate(stations, [
    { atSeconds: 0, demand: [2, 0], kind: "x" },
    { atSeconds: 1, demand: [1, 3], kind: "y" },
    { atSeconds: 10, demand: [0, 0], kind: "z" },
  ]);
  expect(seconds).toEqual(
    new Map([
      ["x", [2]],
      ["y", [5]],
      ["z", [0]],
    ]),
  );
  expect(utilization).toEqual(
    new Map([
      ["a", 0.3],
      ["b", 0.15],
    ]),
  );
});
