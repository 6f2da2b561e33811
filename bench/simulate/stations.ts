/**
 * Discrete-event simulation of work that visits stations with several servers each, first come first served.
 *
 * A job arrives at a time and needs service at one station after the other. Events are taken in the order of time from one
 * heap; jobs wait at a station while all of its servers are busy.
 */
import TinyQueue from "tinyqueue";

export interface Station {
  readonly name: string;
  readonly servers: number;
}

/** Seconds at each station of the simulation, in their order; 0 passes it by. */
export type Demand = readonly number[];

export interface Job {
  readonly atSeconds: number;
  readonly demand: Demand;
  readonly kind: string;
}

export interface Outcome {
  /** Busy share of each station's servers, over the time in which jobs arrived. */
  readonly utilization: ReadonlyMap<string, number>;
  /** Seconds from arrival to the end, by kind, in the order of their ends. */
  readonly seconds: ReadonlyMap<string, readonly number[]>;
}

interface Event {
  readonly at: number;
  readonly job: Job;
  /** Index of the station that is left; -1: the job arrives. */
  readonly leaves: number;
}

/** Jobs may come in any order. */
export function simulate(stations: readonly Station[], jobs: Iterable<Job>): Outcome {
  const events = new TinyQueue<Event>([], (a, b) => a.at - b.at);
  let last = 0;
  for (const job of jobs) {
    events.push({ at: job.atSeconds, job, leaves: -1 });
    last = Math.max(last, job.atSeconds);
  }
  const busy = stations.map(() => 0);
  const waiting = stations.map((): Job[] => []);
  const heads = stations.map(() => 0);
  const used = stations.map(() => 0);
  const seconds = new Map<string, number[]>();

  const begin = (index: number, job: Job, at: number) => {
    const service = job.demand[index] ?? 0;
    busy[index] = (busy[index] ?? 0) + 1;
    // What is served after the last arrival is not part of the time looked at.
    used[index] = (used[index] ?? 0) + Math.max(0, Math.min(service, last - at));
    events.push({ at: at + service, job, leaves: index });
  };
  const enter = (from: number, job: Job, at: number) => {
    let index = from;
    while (index < stations.length && !((job.demand[index] ?? 0) > 0)) index += 1;
    if (index === stations.length) {
      const own = seconds.get(job.kind) ?? [];
      own.push(at - job.atSeconds);
      seconds.set(job.kind, own);
    } else if ((busy[index] ?? 0) < (stations[index]?.servers ?? 0)) begin(index, job, at);
    else waiting[index]?.push(job);
  };
  for (let event = events.pop(); event !== undefined; event = events.pop()) {
    const { at, job, leaves } = event;
    if (leaves >= 0) {
      busy[leaves] = (busy[leaves] ?? 0) - 1;
      const next = waiting[leaves]?.[heads[leaves] ?? 0];
      if (next !== undefined) {
        heads[leaves] = (heads[leaves] ?? 0) + 1;
        begin(leaves, next, at);
      }
    }
    enter(leaves + 1, job, at);
  }
  const utilization = stations.map(
    ({ name, servers }, index) => [name, (used[index] ?? 0) / (servers * last)] as const,
  );
  return { utilization: new Map(utilization), seconds };
}
