/**
 * The live bus of one process.
 *
 *  I1  A publish schedules one delivery per topic; publishes before that delivery are part of it (coalescing), so what
 *      waits is bounded by the number of subscribed topics.
 *  I2  A delivery runs after the publisher's current step, never inside it.
 *  I3  A listener that throws is reported and keeps no other from being called.
 */
import type { LiveBus } from "./bus.ts";

export interface MemoryBusOptions {
  /** Default: a process warning. */
  readonly onListenerError?: (error: unknown, topic: string) => void;
}

type Listener = () => void;

/** A bus whose hints reach subscribers of the same process, in the next turn of the event loop. */
export function createMemoryBus(options: MemoryBusOptions = {}): LiveBus {
  return new MemoryBus(options.onListenerError ?? warn);
}

function warn(error: unknown, topic: string): void {
  process.emitWarning(
    `a listener of ${topic} threw: ${error instanceof Error ? error.message : String(error)}`,
  );
}

class MemoryBus implements LiveBus {
  readonly #topics = new Map<string, Set<{ readonly listener: Listener }>>();
  readonly #pending = new Set<string>();
  readonly #onListenerError: (error: unknown, topic: string) => void;
  #delivery: NodeJS.Immediate | undefined;
  #closed = false;

  constructor(onListenerError: (error: unknown, topic: string) => void) {
    this.#onListenerError = onListenerError;
  }

  publish(topic: string): void {
    if (this.#closed || !this.#topics.has(topic)) return; // I1
    this.#pending.add(topic);
    this.#delivery ??= setImmediate(() => this.#deliver()); // I2
  }

  subscribe(topic: string, listener: Listener): { unsubscribe(): void } {
    if (this.#closed) throw new Error("the bus is closed");
    // An object of its own, so that one function may be subscribed twice.
    const subscription = { listener };
    const subscriptions = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, subscriptions.add(subscription));
    return {
      unsubscribe: () => {
        subscriptions.delete(subscription);
        if (subscriptions.size === 0 && this.#topics.get(topic) === subscriptions) this.#topics.delete(topic);
      },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearImmediate(this.#delivery);
    this.#pending.clear();
    this.#topics.clear();
  }

  #deliver(): void {
    this.#delivery = undefined;
    const topics = [...this.#pending];
    this.#pending.clear();
    for (const topic of topics) {
      for (const { listener } of [...(this.#topics.get(topic) ?? [])]) {
        try {
          listener();
        } catch (error) {
          this.#onListenerError(error, topic); // I3
        }
      }
    }
  }
}
