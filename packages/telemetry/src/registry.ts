/**
 * The registry of a process: what it measures, and nothing global. Who measures gets an object of typed metrics made from it
 * (`createControlMetrics` and its like); without a registry the figures go into one that nobody reads.
 */
import { collectDefaultMetrics, Gauge, Registry } from "prom-client";
import manifest from "../package.json" with { type: "json" };

export type MetricsRegistry = Registry;

/** All packages have one. */
export const helmrVersion: string = manifest.version;

/**
 * With the process's own figures: processor, memory, open files, delay of the event loop, and what runs. `service` is
 * `helmr-control`, `helmr-dispatcher` or `helmr-worker`.
 */
export function createRegistry(service: string): MetricsRegistry {
  const registry = new Registry();
  // Each sample wakes the process: the usual 10 ms cost an idle one half a percent of a core.
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 100 });
  new Gauge({
    name: "helmr_build_info",
    help: "Always 1; which program and version this is",
    labelNames: ["service", "version", "node_version"],
    registers: [registry],
  }).set({ service, version: helmrVersion, node_version: process.version }, 1);
  return registry;
}

/** Of a part whose figures nobody asked for. */
export function unreadRegistry(): MetricsRegistry {
  return new Registry();
}
