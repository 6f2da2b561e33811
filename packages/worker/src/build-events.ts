/**
 * A build's progress on its way to the control plane: numbered, in batches, bounded in size and count, and never in the
 * way of the build.
 */
import type { BuildEvent } from "./control-plane-client.ts";
import { headOf } from "./failure.ts";

export interface BuildEventsOptions {
  readonly send: (items: readonly BuildEvent[]) => Promise<void>;
  readonly onFailure: (error: unknown) => void;
}

const maxMessageLength = 4_000;
const batchItems = 200;
/** Of JSON text; a request's body is at most 256 KiB. */
const batchBytes = 200 * 1024;
/** Output that arrives faster than it is sent is dropped above this, with a note. */
const maxPending = 2_000;
const maxEvents = 20_000;
const pauseMs = 50;

export class BuildEvents {
  readonly #options: BuildEventsOptions;
  #pending: BuildEvent[] = [];
  #nextNumber = 1;
  #dropped = 0;
  #sending: Promise<void> | undefined;
  #failed = false;

  constructor(options: BuildEventsOptions) {
    this.#options = options;
  }

  /** A phase or step begins or ends. */
  step(message: string, attributes: Record<string, unknown> = {}): void {
    this.#push("deployment.build.step", message, "info", attributes);
  }

  output(line: string, attributes: Record<string, unknown> = {}): void {
    if (this.#pending.length >= maxPending || this.#nextNumber > maxEvents) this.#dropped += 1;
    else this.#push("deployment.build.output", line, "info", attributes);
  }

  warn(message: string): void {
    this.#push("deployment.build.warning", message, "warn", {});
  }

  /** Resolves when everything is sent (or sending has failed for good). */
  async flush(): Promise<void> {
    if (this.#dropped > 0)
      this.#push("deployment.build.warning", `${this.#dropped} lines of output are not shown`, "warn", {});
    this.#dropped = 0;
    while (this.#sending !== undefined) await this.#sending;
  }

  #push(
    kind: string,
    message: string,
    severity: BuildEvent["severity"],
    attributes: Record<string, unknown>,
  ): void {
    if (this.#failed) return;
    const occurred_at = new Date().toISOString();
    this.#pending.push({
      number: this.#nextNumber++,
      kind,
      message: headOf(message, maxMessageLength),
      severity,
      attributes,
      occurred_at,
    });
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
    });
  }

  async #sendAll(): Promise<void> {
    try {
      while (this.#pending.length > 0) {
        await this.#options.send(this.#takeBatch());
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    } catch (error) {
      this.#failed = true;
      this.#pending = [];
      this.#options.onFailure(error);
    }
  }

  #takeBatch(): BuildEvent[] {
    let bytes = 0;
    let count = 0;
    for (const item of this.#pending) {
      bytes += Buffer.byteLength(JSON.stringify(item)) + 1;
      if (count > 0 && (bytes > batchBytes || count === batchItems)) break;
      count += 1;
    }
    return this.#pending.splice(0, count);
  }
}
