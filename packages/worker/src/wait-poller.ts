/**
 * Hears when waits of this worker's runs end: one long poll for all of them, begun anew when a wait joins.
 *
 *  I1  A wait's listener is called at most once; a wait that left is never told.
 *  I2  While no wait is pending, nothing is asked.
 */
import type { WaitState } from "@helmr/api";
import type { Logger } from "pino";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { messageOf } from "./failure.ts";

type Listener = (state: WaitState) => void;

const pollMs = 20_000;
/** More waits than fit one request take turns: the ones that joined last are asked for first. */
const maxAsked = 1000;
const failurePauseMs = 1000;

export class WaitPoller {
  readonly #client: Pick<ControlPlaneClient, "pollWaits">;
  readonly #logger: Logger;
  readonly #listeners = new Map<string, Listener>();
  readonly #stopped = new AbortController();
  #polling: AbortController | undefined;
  #running: Promise<void> | undefined;

  constructor(client: Pick<ControlPlaneClient, "pollWaits">, logger: Logger) {
    this.#client = client;
    this.#logger = logger;
  }

  /** Call `listener` when the wait is over. Returns a function that ends the interest. */
  watch(waitId: string, listener: Listener): () => void {
    this.#listeners.set(waitId, listener);
    this.#polling?.abort();
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return () => {
      this.#listeners.delete(waitId);
    };
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#listeners.clear();
    this.#polling?.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (this.#listeners.size > 0 && !this.#stopped.signal.aborted) {
      this.#polling = new AbortController();
      const waitIds = [...this.#listeners.keys()].slice(-maxAsked);
      try {
        const answer = await this.#client.pollWaits(waitIds, pollMs, this.#polling.signal);
        for (const state of answer.resolved) this.#tell(state);
      } catch (error) {
        if (this.#polling.signal.aborted) continue; // a wait joined, or the worker stops
        this.#logger.warn({ reason: messageOf(error) }, "asking for waits failed");
        await pause(failurePauseMs * (0.5 + Math.random()), this.#stopped.signal);
      }
    }
  }

  /** I1 */
  #tell(state: WaitState): void {
    const listener = this.#listeners.get(state.wait_id);
    this.#listeners.delete(state.wait_id);
    listener?.(state);
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
