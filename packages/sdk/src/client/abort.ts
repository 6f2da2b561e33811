/** Time limits and cancellation for requests and loops. */

export interface Linked {
  readonly signal: AbortSignal;
  /** Lifts the time limit; the parent still counts. */
  clearLimit(): void;
  /** Begins the time limit anew. */
  restartLimit(): void;
  /** Aborts by itself. */
  abort(reason: Error): void;
  /** Releases the timer and the listener; call it when the work is over. */
  dispose(): void;
}

/**
 * A signal that aborts with `parent`, or with `reason()` after `timeoutMs`. By hand instead of AbortSignal.any and
 * .timeout: those keep timers and listeners on a long-lived parent until they are collected.
 */
export function linkedSignal(
  parent: AbortSignal | undefined,
  timeoutMs?: number,
  reason?: () => Error,
): Linked {
  const controller = new AbortController();
  const onAbort = () => controller.abort(parent?.reason);
  if (parent?.aborted === true) onAbort();
  else parent?.addEventListener("abort", onAbort, { once: true });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const restartLimit = () => {
    clearTimeout(timer);
    if (timeoutMs !== undefined) timer = setTimeout(() => controller.abort(reason?.()), timeoutMs);
  };
  restartLimit();
  return {
    signal: controller.signal,
    clearLimit: () => clearTimeout(timer),
    restartLimit,
    abort: (why) => controller.abort(why),
    dispose() {
      clearTimeout(timer);
      parent?.removeEventListener("abort", onAbort);
    },
  };
}

/** Resolves after `ms`; rejects with the signal's reason as soon as it aborts. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(signal.reason);
      return;
    }
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}
