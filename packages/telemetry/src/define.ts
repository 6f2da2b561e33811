/** How metrics are defined: Prometheus names and base units, and the buckets that several have in common. */
import { Counter, Gauge, Histogram } from "prom-client";
import type { MetricsRegistry } from "./registry.ts";

/** From what a query takes to what a person waits for. */
export const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** What is built, saved or moved. */
export const longSecondsBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900];
/** What waits for people or for a time. */
export const waitSecondsBuckets = [0.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400];
export const bytesBuckets = [10, 14, 17, 20, 22, 24, 26, 28, 30, 32, 34].map((power) => 2 ** power);
export const countBuckets = [1, 2, 5, 10, 20, 50, 100, 200, 500];

/**
 * Makers of a registry's metrics. Labels have few values that are known beforehand: never an id, a name of a tenant's, or a path
 * with either in it.
 */
export function define(registry: MetricsRegistry) {
  const registers = [registry];
  return {
    counter: <L extends string = never>(name: `helmr_${string}_total`, help: string, labelNames: L[] = []) =>
      new Counter<L>({ name, help, labelNames, registers }),
    gauge: <L extends string = never>(name: `helmr_${string}`, help: string, labelNames: L[] = []) =>
      new Gauge<L>({ name, help, labelNames, registers }),
    watched: <L extends string>(name: `helmr_${string}`, help: string, labelNames: L[]) =>
      new WatchedGauge<L>(registry, name, help, labelNames),
    /** Its value is asked for at each scrape. */
    asked: (name: `helmr_${string}`, help: string, value: () => number) =>
      new Gauge({
        name,
        help,
        registers,
        collect() {
          this.set(value());
        },
      }),
    histogram: <L extends string = never>(
      name: `helmr_${string}_${"seconds" | "bytes" | "items"}`,
      help: string,
      buckets: number[],
      labelNames: L[] = [],
    ) => new Histogram<L>({ name, help, buckets, labelNames, registers }),
  };
}

/** A gauge with labels whose values are asked for at each scrape, each by a function of its own. */
export class WatchedGauge<L extends string> {
  readonly #values = new Map<string, () => void>();

  constructor(registry: MetricsRegistry, name: `helmr_${string}`, help: string, labelNames: L[]) {
    const values = this.#values;
    this.#gauge = new Gauge<L>({
      name,
      help,
      labelNames,
      registers: [registry],
      collect() {
        for (const set of values.values()) set();
      },
    });
  }

  readonly #gauge: Gauge<L>;

  /** Of labels that are watched already, the last one counts. */
  watch(labels: Record<L, string>, value: () => number): void {
    this.#values.set(JSON.stringify(labels), () => this.#gauge.set(labels, value()));
  }
}

/** Seconds since `performance.now()` was `from`. */
export function secondsSince(from: number): number {
  return (performance.now() - from) / 1000;
}
