/** Tokens inside a run (contract 13.6): made here, completed by somebody outside, waited for here. */
import { expectKeys, expectObject, expectPattern, fail } from "../authoring/checks.ts";
import { requireRun } from "./bridge-access.ts";
import { type Duration, durationSeconds } from "./duration.ts";
import { blockingWait, type WaitHandle, waitError, waitHandle } from "./wait-handle.ts";
import { labelsOf, type WaitOptions } from "./wait-options.ts";

/** A token, as create and the client give it. The two secrets are given by create only. */
export interface Token {
  readonly id: string;
  readonly status: "pending" | "completed" | "expired" | "cancelled";
  /** POST `{"data": ...}` there completes it, without any header. */
  readonly callbackUrl?: string;
  /** Completes this token once, as bearer, also from a browser. */
  readonly publicAccessToken?: string;
  readonly timeoutAt: string | null;
  readonly data?: unknown;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
}
export interface TokenWaitOptions extends WaitOptions {
  /** Default: what is left of the token's own timeout. */
  readonly timeout?: Duration;
}
/** A token made inside a run. */
export interface RunToken<T = unknown> extends Token {
  /** The data it is completed with; the run parks meanwhile. */
  wait(options?: TokenWaitOptions): WaitHandle<T>;
}
export interface RunTokenOptions {
  /** Default 7 days. */
  readonly timeout?: Duration;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
}

interface WireToken {
  readonly id: string;
  readonly status: Token["status"];
  readonly callback_url: string;
  readonly public_access_token: string;
  readonly timeout_at: string | null;
  readonly tags?: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>>;
}

const uuidPattern = /^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$/;

/** Throws a TypeError on options that only the client's `tokens.create` takes. */
export async function createRunToken<T>(options: RunTokenOptions = {}): Promise<RunToken<T>> {
  const where = "tokens.create(options)";
  const bridge = requireRun("tokens.create");
  const given = expectObject(options, where, '{ timeout: "2h" }');
  for (const key of ["projectId", "environmentId", "signal"]) {
    if (given[key] !== undefined)
      fail(`${where}.${key}`, "is not taken inside a run, which has its environment");
  }
  expectKeys(given, ["timeout", "tags", "metadata"], where);
  const timeout =
    given.timeout === undefined ? undefined : durationSeconds(given.timeout, `${where}.timeout`) * 1000;
  const params = { ...(timeout === undefined ? {} : { timeout_ms: timeout }), ...labelsOf(options, where) };
  const { token } = (await bridge.call("token.create", params)) as { token: WireToken };
  return Object.freeze({
    id: token.id,
    status: token.status,
    callbackUrl: token.callback_url,
    publicAccessToken: token.public_access_token,
    timeoutAt: token.timeout_at,
    tags: token.tags ?? [],
    metadata: token.metadata ?? {},
    wait: (waitOptions: TokenWaitOptions = {}) => waitForToken<T>(token.id, waitOptions),
  });
}

/** The data that the token is completed with. */
export function waitForToken<T>(
  token: string | { readonly id: string },
  options: TokenWaitOptions = {},
): WaitHandle<T> {
  const what = "tokens.wait";
  const id = expectPattern(typeof token === "string" ? token : token?.id, uuidPattern, `${what}(token)`);
  const labels = labelsOf(options, `${what}(options)`);
  const timeoutMs =
    options.timeout === undefined
      ? undefined
      : durationSeconds(options.timeout, `${what}(options).timeout`) * 1000;
  return waitHandle<T>(async () => {
    const waitFor = {
      kind: "token",
      token_id: id,
      ...(timeoutMs === undefined ? {} : { timeout_ms: timeoutMs }),
    };
    const answer = await blockingWait(what, { wait_for: waitFor, ...labels });
    if (answer.status === "completed") return { ok: true, data: answer.result as T };
    return { ok: false, error: waitError(what, answer.status) };
  });
}
