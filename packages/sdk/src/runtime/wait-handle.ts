/**
 * Wait handles: lazy thenables. Nothing happens before `await` (or `then`, `unwrap`); then the wait begins, once.
 *
 *   await handle            {ok: true, data} or {ok: false, error}
 *   await handle.unwrap()   the data, or the error thrown
 */
import { ConcurrentWaitError, WaitCancelledError, WaitTimeoutError } from "../errors.ts";
import { requireRun } from "./bridge-access.ts";

export type WaitError = WaitTimeoutError | WaitCancelledError | Error;
export type WaitResult<T> =
  | { readonly ok: true; readonly data: T }
  | { readonly ok: false; readonly error: WaitError };

/** See the head of this file. A wait that cannot begin (no run, another wait pending, bad options) rejects. */
export interface WaitHandle<T> extends PromiseLike<WaitResult<T>> {
  unwrap(): Promise<T>;
}
/** Of timers: there is no data. */
export type WaitDelayHandle = WaitHandle<void>;

export function waitHandle<T>(begin: () => Promise<WaitResult<T>>): WaitHandle<T> {
  let begun: Promise<WaitResult<T>> | undefined;
  const start = () => {
    begun ??= begin();
    return begun;
  };
  return {
    // biome-ignore lint/suspicious/noThenProperty: a handle is awaited like a promise and begins only then
    then: (onFulfilled, onRejected) => start().then(onFulfilled, onRejected),
    unwrap: async () => {
      const result = await start();
      if (result.ok) return result.data;
      throw result.error;
    },
  };
}

/** What a wait ended with, as the bridge answers. */
export type WaitAnswer =
  | { readonly status: "completed"; readonly result: unknown }
  | { readonly status: "timed_out" | "cancelled" };

let pending: string | undefined;

/** One blocking wait at a time. `what` is for messages, like `streams.input("answers").wait`. */
export async function blockingWait(what: string, params: Record<string, unknown>): Promise<WaitAnswer> {
  const bridge = requireRun(what);
  if (pending !== undefined) {
    throw new ConcurrentWaitError(
      `${what}: this run waits in ${pending} already; a run waits for one thing at a time, so await them one after the other`,
    );
  }
  pending = what;
  try {
    return (await bridge.call("wait", params)) as WaitAnswer;
  } finally {
    pending = undefined;
  }
}

/** The error of a wait that was not completed. */
export function waitError(what: string, status: "timed_out" | "cancelled"): WaitError {
  return status === "timed_out"
    ? new WaitTimeoutError(`${what}: nothing came in time`)
    : new WaitCancelledError(`${what}: what it waited for was cancelled`);
}
