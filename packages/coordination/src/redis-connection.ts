/**
 * A connection to Redis or Valkey that nobody waits for.
 *
 *   R1 It connects, and connects again, in the background; what is asked of it meanwhile fails at once.
 *   R2 A command that has no answer within `commandTimeoutMs` fails; at most `maxQueuedCommands` wait for one.
 *   R3 A peer that is gone without a word is noticed: pings go out, and a silent connection is closed.
 *   R4 Of an error only its words are told: the options of the connection hold a password.
 */
import { createClient, type RedisClientType } from "redis";

export interface RedisOptions {
  /** `redis://…`, `rediss://…` or `unix://…`. */
  readonly url: string;
  /** Told once when it stops answering, and once when it answers again. */
  readonly onProblem?: (reason: string) => void;
  readonly onRecovered?: () => void;
}

const commandTimeoutMs = 1_000;
const maxQueuedCommands = 1_000;
const maxPauseBetweenConnectsMs = 2_000;
const pingEveryMs = 10_000;
const silentMs = 30_000;

export class RedisConnection {
  readonly client: RedisClientType;
  readonly #options: RedisOptions;
  #failing = false;
  #closed = false;

  constructor(options: RedisOptions) {
    this.#options = options;
    this.client = createClient({
      url: options.url,
      disableOfflineQueue: true, // R1
      commandsQueueMaxLength: maxQueuedCommands,
      pingInterval: pingEveryMs,
      socket: {
        reconnectStrategy: (tries: number) => Math.min(50 * 2 ** tries, maxPauseBetweenConnectsMs),
        socketTimeout: silentMs,
      },
    }) as RedisClientType;
    this.client.on("error", (error) => this.failed(error));
  }

  /** After listeners for `ready` are there. */
  open(): this {
    this.client.connect().catch((error: unknown) => this.failed(error));
    return this;
  }

  /** R2. Rejects, and remembers that it fails. */
  async ask<T>(command: (client: RedisClientType) => Promise<T>): Promise<T> {
    if (!this.client.isReady) throw new Error("Redis is not connected");
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () => reject(new Error(`Redis did not answer within ${commandTimeoutMs} ms`)),
        commandTimeoutMs,
      );
    });
    const answer = command(this.client);
    try {
      const value = await Promise.race([answer, late]);
      this.works();
      return value;
    } catch (error) {
      this.failed(error);
      throw error;
    } finally {
      clearTimeout(timer);
      answer.catch(() => undefined);
    }
  }

  works(): void {
    if (this.#failing && !this.#closed) this.#options.onRecovered?.();
    this.#failing = false;
  }

  failed(error: unknown): void {
    if (this.#failing || this.#closed) return;
    this.#failing = true;
    this.#options.onProblem?.(error instanceof Error ? error.message || error.name : String(error)); // R4
  }

  close(): void {
    this.#closed = true;
    if (this.client.isOpen) this.client.destroy();
  }
}
