/** `tokens`: inside a run, what it makes and waits for; anywhere, those of a client made from HELMR_API_URL and HELMR_API_KEY. */
import { clientTokens } from "./client/client.ts";
import type { TokenCreateOptions, TokensApi } from "./client/tokens.ts";
import { createRunToken, type RunToken, type RunTokenOptions, waitForToken } from "./runtime/run-tokens.ts";
import { runtimeBridge } from "./runtime-bridge.ts";

export interface TokensNamespace extends Omit<TokensApi, "create"> {
  /**
   * A token that somebody outside completes. Inside a run it is the run's, a number as timeout is seconds, and `.wait()` parks
   * the run; outside it is made over HTTP, a number is milliseconds, and `.wait()` throws.
   */
  create<T = unknown>(options?: RunTokenOptions | TokenCreateOptions): Promise<RunToken<T>>;
  /** Waits for a token made anywhere in this environment: inside a run only. */
  readonly wait: typeof waitForToken;
}

export const tokens: TokensNamespace = Object.freeze({
  ...clientTokens,
  async create<T>(options: RunTokenOptions | TokenCreateOptions = {}): Promise<RunToken<T>> {
    if (runtimeBridge() !== undefined) return await createRunToken<T>(options as RunTokenOptions);
    const token = await clientTokens.create(options);
    return Object.freeze({ ...token, wait: (wait) => waitForToken<T>(token.id, wait) } satisfies RunToken<T>);
  },
  wait: waitForToken,
});
