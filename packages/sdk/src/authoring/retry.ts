/** Retry policies (contract 13.4), checked and copied; camelCase is also their wire form. */
import { expectInteger, expectKeys, expectObject, fail, show } from "./checks.ts";

export interface RetryBackoff {
  /** Default 1000. */
  readonly minMs?: number | undefined;
  /** Default 30000. */
  readonly maxMs?: number | undefined;
  /** Default 2: the delay before attempt n + 1 is min(maxMs, minMs * factor^(n - 1)). */
  readonly factor?: number | undefined;
  /** `full` (default) draws the delay evenly from zero up to it. */
  readonly jitter?: "none" | "full" | undefined;
}
export type RetryPolicy =
  | { readonly enabled: false }
  | {
      readonly enabled?: true | undefined;
      /** 1 to 10, the first attempt included. */
      readonly maxAttempts: number;
      readonly backoff?: RetryBackoff | undefined;
    };

/** A policy without undefined values, as the catalog and the wire carry it. */
export type RetryDefinition =
  | { enabled: false }
  | { enabled?: true | undefined; maxAttempts: number; backoff?: BackoffDefinition | undefined };
interface BackoffDefinition {
  minMs?: number | undefined;
  maxMs?: number | undefined;
  factor?: number | undefined;
  jitter?: "none" | "full" | undefined;
}

/** The checked copy of `value`; throws a TypeError naming the field below `where`. */
export function expectRetry(value: unknown, where: string): RetryDefinition {
  const retry = expectObject(value, where, "{ maxAttempts: 3 } or { enabled: false }");
  if (retry.enabled === false) {
    expectKeys(retry, ["enabled"], `${where} with enabled: false`);
    return { enabled: false };
  }
  expectKeys(retry, ["enabled", "maxAttempts", "backoff"], where);
  if (retry.enabled !== undefined && retry.enabled !== true) {
    fail(`${where}.enabled`, `must be true or false, got ${show(retry.enabled)}`);
  }
  const maxAttempts = expectInteger(retry.maxAttempts, 1, 10, `${where}.maxAttempts`);
  return {
    ...(retry.enabled === true ? { enabled: true as const } : {}),
    maxAttempts,
    ...(retry.backoff === undefined ? {} : { backoff: expectBackoff(retry.backoff, `${where}.backoff`) }),
  };
}

function expectBackoff(value: unknown, where: string): BackoffDefinition {
  const backoff = expectObject(value, where, "{ minMs: 1000, maxMs: 30000, factor: 2 }");
  expectKeys(backoff, ["minMs", "maxMs", "factor", "jitter"], where);
  const checked: BackoffDefinition = {};
  for (const key of ["minMs", "maxMs"] as const) {
    const given = backoff[key];
    if (given !== undefined) {
      checked[key] = expectInteger(given, 1, Number.MAX_SAFE_INTEGER, `${where}.${key}`, "milliseconds");
    }
  }
  const { factor, jitter } = backoff;
  if (factor !== undefined) {
    if (typeof factor !== "number" || !Number.isFinite(factor) || factor <= 0) {
      fail(`${where}.factor`, `must be a number greater than zero, got ${show(factor)}`);
    }
    checked.factor = factor;
  }
  if (jitter !== undefined) {
    if (jitter !== "none" && jitter !== "full")
      fail(`${where}.jitter`, `must be "none" or "full", got ${show(jitter)}`);
    checked.jitter = jitter;
  }
  return checked;
}
