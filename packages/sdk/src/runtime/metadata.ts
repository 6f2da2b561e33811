/** `metadata`: the run's metadata, changed from inside it and visible to its readers while it runs (contract 13.7). */
import { requireRun } from "./bridge-access.ts";

/**
 * Changes apply in order. Values are JSON; a value, a patch and the whole are limited to 256 KiB each. Every call
 * throws an Error outside a run, and a TypeError or RangeError on a value that is no JSON or too large.
 */
export const metadata = Object.freeze({
  /** Sets one top-level key. */
  set(key: string, value: unknown): void {
    const bridge = requireRun("metadata.set");
    bridge.metadata.set(expectKey(key, "metadata.set(key)"), value);
  },
  /** Sets every key of `value`, leaving the others as they are. */
  patch(value: Readonly<Record<string, unknown>>): void {
    const bridge = requireRun("metadata.patch");
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw new TypeError("metadata.patch(value): must be an object");
    }
    bridge.metadata.patch({ ...value });
  },
  /** Adds `amount` (may be negative) to a number; an absent key counts as 0. */
  increment(key: string, amount = 1): void {
    const bridge = requireRun("metadata.increment");
    if (typeof amount !== "number" || !Number.isFinite(amount)) {
      throw new TypeError(`metadata.increment(key, amount): must be a finite number, got ${String(amount)}`);
    }
    bridge.metadata.increment(expectKey(key, "metadata.increment(key)"), amount);
  },
});

function expectKey(key: unknown, where: string): string {
  if (typeof key !== "string" || key === "") throw new TypeError(`${where}: must be a non-empty string`);
  return key;
}
