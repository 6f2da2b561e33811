/** Random numbers of a seed: the same simulation for the same seed. */
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";

export type Random = () => number;

/** Uniform in (0, 1]. */
export function uniform(generator: RandomGenerator): Random {
  return () => ((generator.next() >>> 0) + 1) / 2 ** 32;
}

export const exponential = (random: Random, mean: number) => -Math.log(random()) * mean;

/** Times of a Poisson process of `rate` a second. */
export function* arrivals(random: Random, rate: number, seconds: number): Iterable<number> {
  if (rate <= 0) return;
  for (let at = exponential(random, 1 / rate); at < seconds; at += exponential(random, 1 / rate)) yield at;
}
