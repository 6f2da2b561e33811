/** An installation and what is asked of it, as rates of the operations that were measured. */
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { measured, type Operation, operations, parts } from "./measured.ts";
import { arrivals, exponential, uniform } from "./random.ts";
import { type Job, type Outcome, type Station, simulate } from "./stations.ts";

export interface Installation {
  readonly workers: number;
  readonly controlPlanes: number;
  readonly postgresCores: number;
  readonly dispatchers: number;
  /** Share of the workers that hold leases; the others wait for work. */
  readonly busyShare: number;
  /** From one heartbeat of a worker that holds leases to its next. */
  readonly heartbeatSeconds: number;
  /** Independent installations that share the load evenly. */
  readonly cells: number;
}

export interface Load {
  /** By API calls; schedules come on top. */
  readonly startsPerSecond: number;
  readonly firesPerSecond: number;
  readonly appendsPerRun: number;
  readonly parkedRuns: number;
  readonly meanParkedSeconds: number;
}

/** Of one cell, a second. */
export function rates(installation: Installation, load: Load): Record<Operation, number> {
  const { cells, workers, busyShare, heartbeatSeconds } = installation;
  const runs = load.startsPerSecond + load.firesPerSecond;
  // As many are parked as go on: the number of parked runs stays.
  const parks = load.parkedRuns / load.meanParkedSeconds;
  const all: Record<Operation, number> = {
    start: load.startsPerSecond,
    fire: load.firesPerSecond,
    lease: runs,
    finish: runs,
    log: runs * load.appendsPerRun,
    wait: parks,
    resume: parks,
    heartbeat: (workers * busyShare) / heartbeatSeconds,
    waiting: workers * (1 - busyShare),
  };
  return Object.fromEntries(Object.entries(all).map(([name, rate]) => [name, rate / cells])) as typeof all;
}

/** Cores that each part would use, if there were enough. */
export function demand(perSecond: Record<Operation, number>): Map<string, number> {
  return new Map(
    parts.map((part, index) => [
      part,
      operations.reduce((sum, name) => sum + (perSecond[name] * (measured[name][index] ?? 0)) / 1000, 0),
    ]),
  );
}

export function stationsOf(installation: Installation): Station[] {
  const servers = {
    control: installation.controlPlanes,
    postgres: installation.postgresCores,
    redis: 1,
    dispatcher: installation.dispatchers,
  };
  return parts.map((name) => ({ name, servers: servers[name] }));
}

/** Poisson arrivals, exponential service around the measured means. */
export function run(installation: Installation, load: Load, seconds: number, seed: number): Outcome {
  const perSecond = rates(installation, load);
  const random = uniform(xoroshiro128plus(seed));
  const jobs: Job[] = [];
  for (const kind of operations) {
    for (const atSeconds of arrivals(random, perSecond[kind], seconds)) {
      jobs.push({
        atSeconds,
        kind,
        demand: measured[kind].map((ms) => (ms === 0 ? 0 : exponential(random, ms / 1000))),
      });
    }
  }
  return simulate(stationsOf(installation), jobs);
}
