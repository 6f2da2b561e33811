/**
 * The live bus of many processes: hints go over Redis or Valkey, one channel per topic.
 *
 *  I1  Subscribers of the publisher's own process are told without Redis.
 *  I2  `publish` hands over and returns: what Redis does not take is dropped. A lost hint is found by a slow poll.
 *  I3  The channels of subscribed topics are subscribed to whenever the connection is (again) there. Each subscriber is woken
 *      once then: what was published before is not known.
 *  I4  A channel stays subscribed for a while after its last subscriber: those who wait in turns come back to it.
 */
import { randomUUID } from "node:crypto";
import type { LiveBus } from "./bus.ts";
import { createMemoryBus, type MemoryBusOptions } from "./memory-bus.ts";
import { RedisConnection, type RedisOptions } from "./redis-connection.ts";

const channelPrefix = "helmr:live:";
/** Topics of one turn beyond that are dropped. */
const maxPending = 10_000;
const lingerMs = 10_000;

export function createRedisBus(options: RedisOptions & MemoryBusOptions): LiveBus {
  return new RedisBus(options);
}

interface Topic {
  subscribers: number;
  /** Since when it has none. */
  idleSinceMs: number;
}

class RedisBus implements LiveBus {
  readonly #local: LiveBus;
  readonly #publisher: RedisConnection;
  readonly #subscriber: RedisConnection;
  /** Told apart from the messages of others. */
  readonly #id = randomUUID();
  readonly #topics = new Map<string, Topic>();
  readonly #pending = new Set<string>();
  readonly #sweep: NodeJS.Timeout;
  #flush: NodeJS.Immediate | undefined;
  #closed = false;

  constructor({ url, onProblem, onRecovered, ...local }: RedisOptions & MemoryBusOptions) {
    this.#local = createMemoryBus(local);
    // One of the two tells of problems: they have the same.
    this.#publisher = new RedisConnection({ url }).open();
    this.#subscriber = new RedisConnection({
      url,
      ...(onProblem && { onProblem }),
      ...(onRecovered && { onRecovered }),
    });
    this.#subscriber.client.on("ready", () => {
      this.#subscriber.works();
      this.#listen([...this.#topics.keys()]); // I3
    });
    this.#subscriber.open();
    this.#sweep = setInterval(() => this.#unsubscribeIdle(), lingerMs).unref();
  }

  publish(topic: string): void {
    if (this.#closed) return;
    this.#local.publish(topic); // I1
    if (this.#pending.size >= maxPending) return;
    this.#pending.add(topic);
    this.#flush ??= setImmediate(() => this.#send());
  }

  subscribe(topic: string, listener: () => void): { unsubscribe(): void } {
    const subscription = this.#local.subscribe(topic, listener);
    const known = this.#topics.get(topic);
    const state = known ?? { subscribers: 0, idleSinceMs: 0 };
    state.subscribers += 1;
    if (known === undefined) {
      this.#topics.set(topic, state);
      this.#listen([topic]);
    }
    let subscribed = true;
    return {
      unsubscribe: () => {
        if (!subscribed) return;
        subscribed = false;
        subscription.unsubscribe();
        state.subscribers -= 1;
        state.idleSinceMs = Date.now();
      },
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweep);
    clearImmediate(this.#flush);
    this.#publisher.close();
    this.#subscriber.close();
    await this.#local.close();
  }

  /** I2 */
  #send(): void {
    this.#flush = undefined;
    const topics = [...this.#pending];
    this.#pending.clear();
    if (!this.#publisher.client.isReady) return;
    for (const topic of topics) {
      this.#publisher.client.publish(channelPrefix + topic, this.#id).catch(() => undefined);
    }
  }

  readonly #onMessage = (from: string, channel: string): void => {
    if (from !== this.#id) this.#local.publish(channel.slice(channelPrefix.length));
  };

  /** I3 */
  #listen(topics: readonly string[]): void {
    if (topics.length === 0 || this.#closed || !this.#subscriber.client.isReady) return;
    const channels = topics.map((topic) => channelPrefix + topic);
    this.#subscriber.client.subscribe(channels, this.#onMessage).then(
      () => {
        for (const topic of topics) this.#local.publish(topic);
      },
      (error: unknown) => this.#subscriber.failed(error),
    );
  }

  /** I4 */
  #unsubscribeIdle(): void {
    const untilMs = Date.now() - lingerMs;
    const idle = [...this.#topics].filter(
      ([, state]) => state.subscribers === 0 && state.idleSinceMs <= untilMs,
    );
    if (idle.length === 0) return;
    for (const [topic] of idle) this.#topics.delete(topic);
    if (!this.#subscriber.client.isReady) return;
    const channels = idle.map(([topic]) => channelPrefix + topic);
    this.#subscriber.client
      .unsubscribe(channels, this.#onMessage)
      .catch((error: unknown) => this.#subscriber.failed(error));
  }
}
