/**
 * Every live copy on this worker, and one long poll for what is to be done in them.
 *
 * A copy is a guest of its own (materialization-executor.ts), or offered by a run that works here: then it comes up when
 * somebody asks for it, and goes with the run's lease.
 *
 *  W1  One poll at a time; it is begun anew when a copy joins, and none is begun while there is neither a run nor a copy.
 *      A poll that is on its way when the last run ends is left: runs that follow each other closely cost no request each.
 *  W2  A copy that is taken out is not named any more, and hears nothing.
 *  W3  An answer that leads to nothing is not asked for again at once.
 */
import type { WorkspacePoll } from "@helmr/api";
import type { Logger } from "pino";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { messageOf } from "./failure.ts";
import type { LiveCopy } from "./live-copy.ts";

/** A run of this worker, whose guest operators may work in. */
export interface RunPlace {
  readonly leaseId: string;
  /** Somebody asked for the live copy; the run adds it, or not when it is over. */
  attach(materializationId: string, fencing: number): void;
}

export interface CopyListener {
  /** The control plane gave it to another, or ended it. */
  onLost(): void;
}

const pollMs = 20_000;
/** While a copy is full of input nobody reads (live-copy.ts, L3). */
const fullPollMs = 500;
const fullPauseMs = 2_000;
const maxCopies = 1000;
const failurePauseMs = 1_000;

interface Entry {
  readonly copy: LiveCopy;
  readonly listener: CopyListener;
  askedAt: number;
}

export class LiveWorkspaces {
  readonly #client: Pick<ControlPlaneClient, "pollWorkspaces">;
  readonly #logger: Logger;
  readonly #runs = new Map<string, RunPlace>();
  readonly #copies = new Map<string, Entry>();
  readonly #stopped = new AbortController();
  #polling: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(client: Pick<ControlPlaneClient, "pollWorkspaces">, logger: Logger) {
    this.#client = client;
    this.#logger = logger;
  }

  offer(place: RunPlace): void {
    this.#runs.set(place.leaseId, place);
    this.#begin();
  }

  withdraw(leaseId: string): void {
    this.#runs.delete(leaseId);
  }

  add(copy: LiveCopy, listener: CopyListener): void {
    this.#copies.set(copy.materializationId, { copy, listener, askedAt: 0 });
    this.#polling?.abort(); // W1
    this.#begin();
  }

  /** W2 */
  remove(copy: LiveCopy): void {
    this.#copies.delete(copy.materializationId);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#polling?.abort();
    await this.#running;
  }

  /** W1 */
  #begin(): void {
    if (this.#stopped.signal.aborted) return;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  async #run(): Promise<void> {
    while (this.#runs.size + this.#copies.size > 0 && !this.#stopped.signal.aborted) {
      this.#polling = new AbortController();
      const { signal } = this.#polling;
      const now = performance.now();
      const entries = [...this.#copies.values()];
      const asked = entries
        .filter(({ copy, askedAt }) => !copy.isFull || askedAt + fullPauseMs < now)
        .slice(-maxCopies);
      for (const entry of asked) entry.askedAt = now;
      try {
        const answer = await this.#client.pollWorkspaces(
          {
            materializations: asked.map(({ copy }) => ({
              materialization_id: copy.materializationId,
              fencing: copy.fencing,
              after_seq: copy.afterSeq,
            })),
            wait_ms: asked.length < entries.length ? fullPollMs : pollMs,
          },
          signal,
        );
        if (!this.#apply(answer)) await pause(fullPollMs, signal); // W3
      } catch (error) {
        if (signal.aborted) continue; // a copy joined, or the worker stops
        this.#logger.warn({ reason: messageOf(error) }, "asking for work in live copies failed");
        await pause(failurePauseMs * (0.5 + Math.random()), signal);
      }
    }
  }

  /** Whether it led to something, or its time was over with nothing. */
  #apply({ attached, commands, lost }: WorkspacePoll): boolean {
    const isEmpty = attached.length + commands.length + lost.length === 0;
    let isOfUse = isEmpty;
    for (const { materialization_id, run_lease_id, fencing } of attached) {
      if (this.#copies.has(materialization_id)) continue;
      this.#runs.get(run_lease_id)?.attach(materialization_id, fencing);
      isOfUse ||= this.#copies.has(materialization_id);
    }
    for (const { materialization_id, seq, command, data_base64 } of commands) {
      const entry = this.#copies.get(materialization_id);
      if (entry === undefined) continue;
      isOfUse = true;
      entry.copy.take(seq, command, Buffer.from(data_base64 ?? "", "base64"));
    }
    for (const id of lost) {
      const entry = this.#copies.get(id);
      if (entry === undefined) continue;
      isOfUse = true;
      this.#copies.delete(id);
      entry.listener.onLost();
    }
    return isOfUse;
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
