/** Waiting for a hint of the bus, with a slow poll for the hint that is lost. */
import type { LiveBus } from "@helmr/coordination";

/** How late a lost hint is noticed. */
export const slowPollMs = 1000;

/** Subscribed from creation on: a hint that comes before `wait` ends the next `wait` at once. */
export class WakeUp {
  readonly #subscription: { unsubscribe(): void };
  readonly #signal: AbortSignal;
  #hinted = false;
  #wake: (() => void) | undefined;
  readonly #onEvent = () => {
    this.#hinted = true;
    this.#wake?.();
  };

  /** `onHint`: told of each hint, before anybody who waits for it goes on. */
  constructor(bus: LiveBus, topic: string, signal: AbortSignal, onHint?: () => void) {
    this.#signal = signal;
    this.#subscription = bus.subscribe(topic, () => {
      onHint?.();
      this.#onEvent();
    });
    signal.addEventListener("abort", this.#onEvent, { once: true });
  }

  /** Until a hint, the abort, or `limitMs`. */
  async wait(limitMs: number): Promise<void> {
    if (!this.#hinted && !this.#signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, limitMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#hinted = false;
  }

  [Symbol.dispose](): void {
    this.#subscription.unsubscribe();
    this.#signal.removeEventListener("abort", this.#onEvent);
  }
}
