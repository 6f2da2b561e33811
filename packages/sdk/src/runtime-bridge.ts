/**
 * How `@helmr/sdk` inside a run reaches the task host: one object under a well-known global symbol.
 *
 * The task host puts it there before it loads the task module. It is versioned and looked up by symbol, not imported,
 * so that the copy of the SDK a task resolves and the task host may come from different bundles.
 */
export const runtimeKey: unique symbol = Symbol.for("helmr.runtime.v1");

export type BridgeMethod = "wait" | "stream.append" | "stream.read" | "token.create";

export interface RuntimeBridge {
  readonly runId: string;
  readonly sessionId: string;
  readonly taskId: string;
  /** Each applies locally at once and is sent in order; throws a TypeError or RangeError on what breaks the limits. */
  readonly metadata: {
    set(key: string, value: unknown): void;
    patch(value: Record<string, unknown>): void;
    increment(key: string, amount: number): void;
  };
  /**
   * Asks Helmr for something, and resolves with its answer as plain JSON; a wait's answer may take days, and comes to a
   * process that was saved and restored meanwhile. Rejects with a BridgeCallError-like `{code?, message}` on a refusal.
   */
  call(method: BridgeMethod, params: Record<string, unknown>): Promise<unknown>;
  /** One formatted entry, without the newline; `error` and `warn` go to stderr. */
  log(level: "info" | "warn" | "error", text: string): void;
  /** Aborts when the run is cancelled. */
  readonly signal: AbortSignal;
}

/** The bridge of the current run, or undefined outside a run. */
export function runtimeBridge(): RuntimeBridge | undefined {
  return (globalThis as { [runtimeKey]?: RuntimeBridge })[runtimeKey];
}
