/** Following a run: its live events, and waiting for its end (contract 6.2). */
import { TimeoutError } from "../errors.ts";
import { linkedSignal, sleep } from "./abort.ts";
import { eventFrames } from "./event-stream.ts";
import { Outage, reconnectDelayMs } from "./retry.ts";
import { parseFrameData, type RunEvent, type WireEvent } from "./run-events.ts";
import type { RunSnapshot } from "./snapshots.ts";
import type { ApiRequest, Transport } from "./transport.ts";

/** What following needs of the runs API, for one run. */
export interface FollowTarget {
  readonly runId: string;
  readonly transport: Transport;
  retrieve(signal: AbortSignal): Promise<RunSnapshot>;
  /** Request of the event stream after `cursor`. */
  streamRequest(cursor: number): ApiRequest;
  /** Recorded events after `cursor`, page by page. */
  pages(cursor: number, signal: AbortSignal): AsyncIterable<WireEvent>;
}

/** The largest delay that timers take. */
const maxTimeoutMs = 2 ** 31 - 1;

/** One connection: records after `cursor`, until the stream ends. */
async function* followOnce(
  target: FollowTarget,
  cursor: number,
  signal: AbortSignal,
): AsyncGenerator<WireEvent> {
  let last = cursor;
  for await (const frame of eventFrames(target.transport, target.streamRequest(cursor), signal)) {
    const record = parseFrameData(frame.data);
    // A server may repeat what it sent before a cut; callers see each record once.
    if (record.seq <= last) continue;
    last = record.seq;
    yield record;
  }
}

/**
 * The run once it is over. Survives restarts of the server and cut connections. Throws TimeoutError after
 * `timeoutMs`, the signal's reason on abort, and errors that another attempt does not mend.
 */
export async function waitForRun(
  target: FollowTarget,
  signal: AbortSignal | undefined,
  timeoutMs: number | undefined,
): Promise<RunSnapshot> {
  if (timeoutMs !== undefined && !(timeoutMs > 0 && timeoutMs <= maxTimeoutMs)) {
    throw new RangeError(`timeoutMs must be from 1 to ${maxTimeoutMs}; leave it out to wait without a limit`);
  }
  const late = () => new TimeoutError(`run ${target.runId} is not over after ${timeoutMs} ms; it goes on`);
  const link = linkedSignal(signal, timeoutMs, late);
  try {
    return await waitLoop(target, link.signal);
  } finally {
    link.dispose();
  }
}

async function waitLoop(target: FollowTarget, signal: AbortSignal): Promise<RunSnapshot> {
  const outage = new Outage();
  let cursor = 0;
  const sawTerminalEvent = async () => {
    for await (const record of followOnce(target, cursor, signal)) {
      cursor = record.seq;
      outage.over();
      if (record.isTerminal) return true;
    }
    return false;
  };
  for (let isFirst = true; ; isFirst = false) {
    const run = await outage.attempt(() => target.retrieve(signal));
    if (run?.isTerminal === true) return run;
    if (!isFirst) await sleep(reconnectDelayMs, signal);
    if ((await outage.attempt(sawTerminalEvent)) === true) return pollTerminal(target, outage, signal);
  }
}

/** The event may be visible a moment before the run's row. */
async function pollTerminal(target: FollowTarget, outage: Outage, signal: AbortSignal): Promise<RunSnapshot> {
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, 1000)) {
    const run = await outage.attempt(() => target.retrieve(signal));
    if (run?.isTerminal === true) return run;
    await sleep(delayMs, signal);
  }
}

/** Every event after `cursor`, each once and in order, until the run is over. Errors as in `waitForRun`. */
export async function* subscribe(
  target: FollowTarget,
  signal: AbortSignal | undefined,
  cursor: number,
): AsyncGenerator<RunEvent, void, undefined> {
  const link = linkedSignal(signal);
  const outage = new Outage();
  let last = cursor;
  try {
    for (;;) {
      try {
        for await (const record of followOnce(target, last, link.signal)) {
          last = record.seq;
          outage.over();
          if (record.event !== undefined) yield record.event;
          if (record.isTerminal) return;
        }
      } catch (error) {
        outage.record(error);
      }
      const run = await outage.attempt(() => target.retrieve(link.signal));
      if (run?.isTerminal === true) {
        yield* remaining(target, last, link.signal, outage);
        return;
      }
      await sleep(reconnectDelayMs, link.signal);
    }
  } finally {
    link.dispose();
  }
}

/** What was recorded after the stream ended; a failed page is asked for again. */
async function* remaining(
  target: FollowTarget,
  cursor: number,
  signal: AbortSignal,
  outage: Outage,
): AsyncGenerator<RunEvent> {
  let last = cursor;
  for (;;) {
    try {
      for await (const record of target.pages(last, signal)) {
        last = record.seq;
        outage.over();
        if (record.event !== undefined) yield record.event;
      }
      return;
    } catch (error) {
      outage.record(error);
    }
    await sleep(reconnectDelayMs, signal);
  }
}
