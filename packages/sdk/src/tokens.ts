/** `tokens`: inside a run, what it makes and waits for. */

import { createRunToken, type RunToken, type RunTokenOptions, waitForToken } from "./runtime/run-tokens.ts";
import { runtimeBridge } from "./runtime-bridge.ts";

export const tokens = Object.freeze({
  /** A token that somebody outside completes, with `.wait()`. Throws outside a run. */
  create<T = unknown>(options?: RunTokenOptions): Promise<RunToken<T>> {
    if (runtimeBridge() === undefined) {
      return Promise.reject(
        new Error(
          "tokens.create works only inside a run; call it from the run function of a task that Helmr executes",
        ),
      );
    }
    return createRunToken<T>(options);
  },
  /** Waits for a token made anywhere in this environment. */
  wait: waitForToken,
});
