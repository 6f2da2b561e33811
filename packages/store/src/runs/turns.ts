/**
 * Whose turn it is: which lanes a claim takes runs from, and where the next one looks on.
 *
 * A lane is (environment, level, queue, concurrency key). Environments take turns, the one longest not served first, whatever
 * the priorities of its runs; in the environment the best level goes first, and at one level the lanes take turns likewise.
 * What was served when is kept in this process alone: with several control planes each is fair by itself, and none waits for
 * another to write it down.
 *
 * Nothing starves: what a claim has served comes after everything that it found and did not serve (T1), and what one claim had
 * no room to look at the next ones look at (T2: the places of environments and of lanes move on by what was seen).
 */

/** A lane with a run that can be claimed now. */
export interface OpenLane {
  readonly environmentId: string;
  readonly level: number;
  readonly queueName: string;
  readonly laneKey: string;
  /** When its first run became available, in milliseconds. */
  readonly since: number;
  /** Runs that are due, as far as they matter. */
  readonly depth: number;
  /** Its queue has a limit: it is taken from under the lock of the queue, where free places are counted again. */
  readonly limited: boolean;
  /** Free places; undefined: no limit. */
  readonly places: number | undefined;
}

export interface Taking {
  readonly lane: OpenLane;
  take: number;
  /** When environment and lane were served before. */
  before: { readonly environment: number; readonly lane: number } | undefined;
}

/** Where the lanes of an environment are looked at from. */
export interface LanePlace {
  readonly environmentId: string;
  readonly level: number;
  readonly queueName: string;
  readonly laneKey: string;
}

/** Forgets what was set longest ago. Forgotten is as good as never served: it goes first, once. */
class RecentMap<Value> {
  readonly #values = new Map<string, Value>();
  readonly #max: number;

  constructor(max: number) {
    this.#max = max;
  }

  get(key: string): Value | undefined {
    return this.#values.get(key);
  }

  set(key: string, value: Value): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    if (this.#values.size <= this.#max) return;
    for (const oldest of this.#values.keys()) {
      this.#values.delete(oldest);
      return;
    }
  }

  delete(key: string): void {
    this.#values.delete(key);
  }

  values(): Value[] {
    return [...this.#values.values()];
  }
}

/** Where a worker's next claim looks on. */
export class WorkerPlace {
  /** The environment after which it looks; undefined: from the first one on. */
  environmentId: string | undefined;
  /** There was no other lane when the last claim looked, and it has no limit. */
  onlyLane: OpenLane | undefined;
  /** By environment, of those with more lanes than one claim looks at. */
  readonly lanes = new RecentMap<LanePlace>(1000);
}

/** What one process remembers of its claims. */
export class ClaimTurns {
  #tick = 0;
  readonly #served = new RecentMap<number>(20_000);
  readonly #places = new RecentMap<WorkerPlace>(10_000);

  /** By worker: those of another group see other environments, and what one passes over another one must not miss. */
  placeOf(workerInstanceId: string): WorkerPlace {
    const place = this.#places.get(workerInstanceId) ?? new WorkerPlace();
    this.#places.set(workerInstanceId, place);
    return place;
  }

  /** Divide up to `limit` runs among the lanes, and note them as served (T1). */
  choose(lanes: readonly OpenLane[], limit: number): Taking[] {
    const environments = new Map<string, Candidate[]>();
    for (const lane of lanes) {
      const key = keyOf(lane);
      const room = Math.min(lane.depth, lane.places ?? lane.depth);
      const candidates = environments.get(lane.environmentId) ?? [];
      candidates.push({ key, taking: { lane, take: 0, before: undefined }, room });
      environments.set(lane.environmentId, candidates);
    }
    const takings = new Set<Taking>();
    for (let left = limit; left > 0; left -= 1) {
      const taking = this.#takeOne(environments);
      if (taking === undefined) break;
      takings.add(taking);
    }
    return [...takings];
  }

  /** Those of other environments than `served` got nothing: their runs did not fit beside the others. It is their turn still. */
  giveBack(takings: readonly Taking[], served: ReadonlySet<string>): void {
    // The first taking of an environment has its place from before this claim.
    for (const { lane, before } of takings.toReversed()) {
      if (served.has(lane.environmentId) || before === undefined) continue;
      this.#served.set(lane.environmentId, before.environment);
      this.#served.set(keyOf(lane), before.lane);
    }
  }

  /** T1 */
  served(lane: OpenLane): void {
    this.#tick += 1;
    this.#served.set(lane.environmentId, this.#tick);
    this.#served.set(keyOf(lane), this.#tick);
  }

  #takeOne(environments: Map<string, Candidate[]>): Taking | undefined {
    const turns = [...environments].map(([id, candidates]) => ({
      id,
      served: this.#served.get(id) ?? 0,
      since: Math.min(...candidates.map(({ taking }) => taking.lane.since)),
    }));
    const [turn] = turns.sort((a, b) => a.served - b.served || a.since - b.since);
    if (turn === undefined) return undefined;
    const candidates = environments.get(turn.id) ?? [];
    const [next] = candidates.sort((a, b) => this.#compareLanes(a, b));
    if (next === undefined) return undefined;
    next.taking.take += 1;
    next.taking.before ??= { environment: turn.served, lane: this.#served.get(next.key) ?? 0 };
    this.served(next.taking.lane);
    // Lanes of several levels may share the places of one concurrency key.
    for (const each of candidates)
      if (each.key === next.key && each.taking.lane.places !== undefined) each.room -= 1;
    if (next.taking.lane.places === undefined) next.room -= 1;
    const left = candidates.filter(({ taking, room }) => room > 0 && taking.take < taking.lane.depth);
    if (left.length === 0) environments.delete(turn.id);
    else environments.set(turn.id, left);
    return next.taking;
  }

  #compareLanes(a: Candidate, b: Candidate): number {
    const served = (candidate: Candidate) => this.#served.get(candidate.key) ?? 0;
    return (
      a.taking.lane.level - b.taking.lane.level ||
      served(a) - served(b) ||
      a.taking.lane.since - b.taking.lane.since
    );
  }
}

/** Of one concurrency key, at whichever level. */
const keyOf = ({ environmentId, queueName, laneKey }: OpenLane): string =>
  JSON.stringify([environmentId, queueName, laneKey]);

interface Candidate {
  readonly key: string;
  readonly taking: Taking;
  room: number;
}
