/**
 * The live bus: hints that something changed. Never the truth: a lost hint only means that a slow poll finds it later.
 *
 * Topics: `run:<id>` (events, logs, state), `deployment:<id>`, `work:<worker group>` (queued runs or builds),
 * `worker:<worker instance id>` (cancel requests). Adapters: memory (one process), Redis or Valkey (many).
 */
export interface LiveBus {
  /** Tell subscribers of this topic; never throws, never blocks. */
  publish(topic: string): void;
  /** `listener` is called at least once after each publish that follows; several publishes may be one call. */
  subscribe(topic: string, listener: () => void): { unsubscribe(): void };
  close(): Promise<void>;
}
