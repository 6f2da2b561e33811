/**
 * Guests that are up before a run asks: agent connected, task host loaded, an empty workspace disk mounted.
 *
 * | state    | enters by                     | leaves by                                      |
 * |----------|-------------------------------|------------------------------------------------|
 * | starting | refill                        | up -> idle; failed -> gone                     |
 * | idle     | start-up done                 | take -> the run's; evicted or died -> gone     |
 *
 * Idle guests are not paused: one uses less than 0.01 % of a core, and of 152 guests that were frozen and thawed 3 had
 * their task process killed by the sentry within 50 ms (of 229 that were not, none).
 *
 *  I1  A guest is given away once and never comes back.
 *  I2  At most `maxGuests` idle or starting guests, `perSandbox` of one kind, and their memory with that of the runs
 *      at work within the worker's: they give way to runs (`fit`).
 *  I3  Guests are started one at a time, and not while a run is starting.
 *  I4  A newer deployment of an environment empties the pool of older ones once, when it is first seen.
 */
import type { Logger } from "pino";
import { messageOf } from "./failure.ts";
import type { PoolOptions } from "./options.ts";
import type { GuestKind, RunGuest, RunGuests } from "./run-guest.ts";
import type { DiskSpec, MountedDisk, Workspaces } from "./workspaces.ts";

export interface GuestPoolOptions extends PoolOptions {
  readonly guests: RunGuests;
  readonly workspaces: Workspaces;
  /** Memory not taken by the runs at work, in MiB. */
  readonly freeMemoryMib: () => number;
  readonly logger: Logger;
}

interface IdleGuest {
  readonly guest: RunGuest;
  readonly timer: NodeJS.Timeout;
}

/** Sandboxes the pool keeps in mind; the least recently used is forgotten. */
const maxKinds = 64;
/** A kind whose guests do not come up is not tried again before. */
const failureBackoffMs = 30_000;

export class GuestPool {
  readonly #options: GuestPoolOptions;
  readonly #idle = new Map<string, IdleGuest[]>();
  /** Least recently used first. */
  readonly #kinds = new Map<string, { kind: GuestKind; wanted: number; blockedUntil: number }>();
  readonly #newest = new Map<string, string>();
  readonly #ending = new Set<Promise<void>>();
  #runsStarting = 0;
  #refilling: Promise<void> | undefined;
  #closed = false;
  #abort = new AbortController();

  constructor(options: GuestPoolOptions) {
    this.#options = options;
  }

  /** A guest of this kind with an empty disk, or undefined. The caller owns it then. */
  take(kind: GuestKind): RunGuest | undefined {
    const entry = this.#idle.get(kind.key)?.shift();
    if (entry === undefined) return undefined;
    clearTimeout(entry.timer);
    return entry.guest;
  }

  /** A run of this kind begins to start (true) or has started (false): the pool fills behind it (I3). */
  noteRun(kind: GuestKind, phase: "starting" | "started"): void {
    this.#runsStarting += phase === "starting" ? 1 : -1;
    if (phase === "starting") this.want(kind, this.#options.perSandbox);
    else this.#refill();
  }

  /**
   * I2: a run of this kind, or a live copy, has taken memory; guests of the least recently used kinds end until the rest fits.
   * One guest of the run's own kind is what it is about to take.
   */
  fit(key?: string): void {
    const [own] = key === undefined ? [] : (this.#idle.get(key) ?? []);
    const freeMib = this.#options.freeMemoryMib() + (own === undefined ? 0 : memoryOf(own.guest.kind));
    for (const key of this.#oldestFirst()) {
      while (this.memoryMib > freeMib) {
        const [entry] = this.#idle.get(key) ?? [];
        if (entry === undefined) break;
        this.#remove(key, entry.guest);
      }
    }
  }

  /** Memory promised to the idle guests. */
  get memoryMib(): number {
    return [...this.#idle.values()].flat().reduce((sum, { guest }) => sum + memoryOf(guest.kind), 0);
  }

  /** Kinds that have idle guests; forgotten ones before all others. */
  #oldestFirst(): string[] {
    const known = [...this.#kinds.keys()];
    return [...this.#idle.keys()].sort((a, b) => known.indexOf(a) - known.indexOf(b));
  }

  /** Keep `count` guests of this kind up. */
  want(kind: GuestKind, count: number): void {
    if (this.#closed || count === 0 || this.#options.perSandbox === 0) return;
    const known = this.#kinds.get(kind.key);
    this.#kinds.delete(kind.key);
    this.#kinds.set(kind.key, {
      kind,
      wanted: Math.max(known?.wanted ?? 0, count),
      blockedUntil: known?.blockedUntil ?? 0,
    });
    const [oldest] = this.#kinds.keys();
    if (this.#kinds.size > maxKinds && oldest !== undefined) this.#kinds.delete(oldest);
    this.#noteDeployment(kind);
    this.#refill();
  }

  /** Idle guests. */
  get size(): number {
    return [...this.#idle.values()].reduce((sum, guests) => sum + guests.length, 0);
  }

  /** After `close`: start idle guests again. */
  open(): void {
    this.#abort = new AbortController();
    this.#closed = false;
  }

  /** End every idle guest, and start no more. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#abort.abort();
    await this.#refilling;
    for (const key of [...this.#idle.keys()]) this.#evict(key);
    await Promise.all(this.#ending);
  }

  /** I4; ids are UUIDv7, so the later deployment has the larger one. */
  #noteDeployment(kind: GuestKind): void {
    const newest = this.#newest.get(kind.environmentId) ?? "";
    if (kind.deploymentId <= newest) return;
    this.#newest.set(kind.environmentId, kind.deploymentId);
    for (const [key, { kind: other }] of this.#kinds) {
      if (other.environmentId !== kind.environmentId || other.deploymentId === kind.deploymentId) continue;
      this.#kinds.delete(key);
      this.#evict(key);
    }
  }

  #refill(): void {
    this.#refilling ??= this.#fill().finally(() => {
      this.#refilling = undefined;
    });
  }

  async #fill(): Promise<void> {
    // Let the run that caused this go first.
    await new Promise((resolve) => setImmediate(resolve));
    this.fit();
    for (let kind = this.#nextKind(); kind !== undefined; kind = this.#nextKind()) await this.#startOne(kind);
  }

  /** The most recently used kind that lacks guests, when the bounds allow one more (I2, I3). */
  #nextKind(): GuestKind | undefined {
    const idle = [...this.#idle.values()].flat();
    if (this.#closed || this.#runsStarting > 0 || idle.length >= this.#options.maxGuests) return undefined;
    const freeMib = this.#options.freeMemoryMib() - this.memoryMib;
    const now = performance.now();
    return [...this.#kinds.values()]
      .reverse()
      .find(
        ({ kind, wanted, blockedUntil }) =>
          blockedUntil <= now &&
          (this.#idle.get(kind.key)?.length ?? 0) < wanted &&
          memoryOf(kind) <= freeMib,
      )?.kind;
  }

  async #startOne(kind: GuestKind): Promise<void> {
    const { guests, workspaces, logger, idleTtlMs } = this.#options;
    let disk: MountedDisk | undefined;
    const openDisk = async (spec: DiskSpec) => {
      disk = await workspaces.createFresh(spec);
      return disk;
    };
    try {
      const guest = await guests.start(kind, openDisk, this.#abort.signal);
      if (this.#closed || !this.#kinds.has(kind.key)) return this.#end(guest);
      const timer = setTimeout(() => this.#expire(kind.key, guest), idleTtlMs);
      timer.unref();
      this.#idle.set(kind.key, [...(this.#idle.get(kind.key) ?? []), { guest, timer }]);
      void guest.session.ended.then(() => this.#remove(kind.key, guest));
    } catch (error) {
      if (disk !== undefined) await workspaces.discard(disk);
      const known = this.#kinds.get(kind.key);
      if (known !== undefined) known.blockedUntil = performance.now() + failureBackoffMs;
      if (!this.#closed)
        logger.warn(
          { reason: messageOf(error), sandbox: kind.sandbox.definition.id },
          "a pooled guest did not start",
        );
    }
  }

  #expire(key: string, guest: RunGuest): void {
    this.#kinds.delete(key);
    this.#remove(key, guest);
  }

  /** Take a guest out of the pool and end it; nothing happens when a run has it. */
  #remove(key: string, guest: RunGuest): void {
    const list = this.#idle.get(key) ?? [];
    const entry = list.find((candidate) => candidate.guest === guest);
    if (entry === undefined) return;
    clearTimeout(entry.timer);
    const rest = list.filter((candidate) => candidate !== entry);
    if (rest.length === 0) this.#idle.delete(key);
    else this.#idle.set(key, rest);
    this.#end(guest);
  }

  #evict(key: string): void {
    for (const { guest } of this.#idle.get(key) ?? []) this.#remove(key, guest);
  }

  #end(guest: RunGuest): void {
    const ending = guest
      .dispose()
      .then(() => this.#options.workspaces.discard(guest.disk))
      .catch((error: unknown) =>
        this.#options.logger.warn({ reason: messageOf(error) }, "a pooled guest was not cleaned up"),
      )
      .finally(() => this.#ending.delete(ending));
    this.#ending.add(ending);
  }
}

function memoryOf(kind: GuestKind): number {
  return kind.sandbox.definition.resources.memory_mib;
}
