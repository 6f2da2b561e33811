/** What an operation works with: a client that does not give up while things are broken. */
import { setTimeout as sleep } from "node:timers/promises";
import type { HelmrClient } from "@helmr/sdk";
import type { Seen } from "../seen.ts";

export interface World {
  readonly client: HelmrClient;
  readonly access: { readonly url: string; readonly apiKey: string };
  readonly folder: string;
  readonly seen: Seen;
  /** Aborted when nobody waits for operations any more. */
  readonly signal: AbortSignal;
}

const pauseMs = 300;
/** One request: a frozen control plane holds it for as long as it is frozen. */
const requestMs = 20_000;

/**
 * Repeat the request until it is answered, as a patient program does: after broken connections, 5xx, 408 and 429. It must be one
 * that may be repeated. Other errors are thrown: the caller knows whether they may be.
 */
export async function answered<T>(world: World, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  for (;;) {
    try {
      const result = await ask(AbortSignal.any([world.signal, AbortSignal.timeout(requestMs)]));
      world.seen.counts.answered += 1;
      return result;
    } catch (error) {
      world.signal.throwIfAborted();
      if (!mayHelp(error)) throw error;
      world.seen.counts.retried += 1;
      await sleep(pauseMs, undefined, { signal: world.signal });
    }
  }
}

export function statusOf(error: unknown): number | undefined {
  const status = (error as { status?: unknown } | null)?.status;
  return typeof status === "number" ? status : undefined;
}

function mayHelp(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  if (["TransportError", "TimeoutError", "AbortError"].includes(name)) return true;
  const status = statusOf(error);
  return status !== undefined && (status >= 500 || status === 408 || status === 429);
}

export async function pause(world: World, ms: number): Promise<void> {
  await sleep(ms, undefined, { signal: world.signal });
}
