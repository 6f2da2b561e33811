/**
 * Keeps the leases of this worker alive and hears which are lost or to be cancelled.
 *
 *  I1  A lease not confirmed for its whole duration counts as lost here too, before another worker may have it.
 *  I2  `onLost` is called at most once per lease; after it the lease is forgotten.
 *  I3  A worker that holds nothing only says that it lives, every `idleMs`; with its first lease it beats again.
 */
import type { Logger } from "pino";
import type { ControlPlaneClient, HeartbeatAnswer, HeartbeatReport } from "./control-plane-client.ts";
import { UnauthorizedError } from "./control-plane-client.ts";

export interface HeldLease {
  readonly leaseId: string;
  readonly fencing: number;
  /** Default: that of runs and builds. */
  readonly durationMs?: number | undefined;
  readonly onLost: () => void;
  readonly onCancel: (request: { readonly reason: string; readonly force: boolean }) => void;
}

export interface HeartbeatOptions {
  readonly client: ControlPlaneClient;
  readonly intervalMs: number;
  readonly leaseDurationMs: number;
  readonly onUnauthorized: () => void;
  /** What the beats say of the worker, besides its leases. */
  readonly report?: () => HeartbeatReport;
  /** The control plane wants nothing new to be taken, or not any more; told with every answer. */
  readonly onDraining?: (draining: boolean) => void;
  readonly logger: Logger;
}

/** The control plane calls a worker gone after 60 seconds of silence. */
const idleMs = 5_000;

interface Held {
  readonly lease: HeldLease;
  confirmedAt: number;
}

export class Heartbeats {
  readonly #options: HeartbeatOptions;
  readonly #leases = new Map<string, Held>();
  readonly #stopped = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();
  #isIdle = false;
  /** The beat that waits for its answer. */
  #underWay: AbortController | undefined;
  #hurried = false;

  constructor(options: HeartbeatOptions) {
    this.#options = options;
  }

  start(): void {
    const { intervalMs } = this.#options;
    this.#isIdle = this.#leases.size === 0 && !this.#hurried;
    const busyMs = this.#hurried ? 0 : intervalMs;
    this.#hurried = false;
    this.#timer = setTimeout(
      () => {
        this.#isIdle = false;
        this.#beating = this.#beat();
      },
      this.#isIdle ? Math.max(idleMs, intervalMs) : busyMs,
    );
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#expiry);
    await this.#beating;
  }

  hold(lease: HeldLease): void {
    this.#leases.set(lease.leaseId, { lease, confirmedAt: performance.now() });
    this.#watchExpiry();
    if (!this.#isIdle) return;
    clearTimeout(this.#timer); // I3
    this.start();
  }

  /** There is something to report: the next beat neither waits its turn nor for the answer to one that is held. */
  hurry(): void {
    if (this.#stopped.signal.aborted) return;
    this.#hurried = true;
    this.#underWay?.abort(); // its end starts the next one
    if (this.#underWay !== undefined) return;
    clearTimeout(this.#timer);
    this.start();
  }

  release(leaseId: string): void {
    this.#leases.delete(leaseId);
  }

  async #beat(): Promise<void> {
    const sentAt = performance.now();
    const leases = [...this.#leases.values()].map(({ lease }) => ({
      lease_id: lease.leaseId,
      fencing: lease.fencing,
    }));
    const underWay = new AbortController();
    this.#underWay = underWay;
    const signal = AbortSignal.any([this.#stopped.signal, underWay.signal]);
    try {
      const report = this.#options.report?.() ?? {};
      const answer = await this.#options.client.heartbeat(leases, signal, report);
      this.#apply(answer, sentAt);
      this.#options.onDraining?.(answer.draining);
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      if (!underWay.signal.aborted) this.#options.logger.warn({ error }, "heartbeat failed");
      if (error instanceof UnauthorizedError) this.#options.onUnauthorized();
    }
    this.#underWay = undefined;
    this.#watchExpiry();
    if (!this.#stopped.signal.aborted) this.start();
  }

  #apply(answer: HeartbeatAnswer, sentAt: number): void {
    for (const { lease_id, status, cancel } of answer.leases) {
      const held = this.#leases.get(lease_id);
      if (held === undefined) continue;
      if (status === "lost") this.#lose(held.lease);
      else {
        held.confirmedAt = sentAt;
        if (cancel !== undefined) held.lease.onCancel(cancel);
      }
    }
  }

  /** I1: by a timer of its own, because a beat may wait for its answer beyond the end of the leases it carries. */
  #watchExpiry(): void {
    clearTimeout(this.#expiry);
    if (this.#stopped.signal.aborted) return;
    const now = performance.now();
    const endOf = ({ lease, confirmedAt }: Held) =>
      confirmedAt + (lease.durationMs ?? this.#options.leaseDurationMs);
    for (const held of this.#leases.values()) if (endOf(held) <= now) this.#lose(held.lease);
    if (this.#leases.size === 0) return;
    const first = Math.min(...Array.from(this.#leases.values(), endOf));
    this.#expiry = setTimeout(() => this.#watchExpiry(), Math.ceil(first - now));
  }

  #lose(lease: HeldLease): void {
    this.#leases.delete(lease.leaseId);
    lease.onLost();
  }
}
