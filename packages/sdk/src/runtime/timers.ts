/** `timers`: waits for time alone (contract 13.6). Long ones park the run. */
import { fail, show } from "../authoring/checks.ts";
import { type Duration, durationSeconds } from "./duration.ts";
import { blockingWait, type WaitDelayHandle, waitError, waitHandle } from "./wait-handle.ts";
import { labelsOf, type WaitOptions } from "./wait-options.ts";

function timer(what: string, dueAt: () => Date, options: WaitOptions): WaitDelayHandle {
  const labels = labelsOf(options, `${what}(options)`);
  return waitHandle<void>(async () => {
    const answer = await blockingWait(what, {
      wait_for: { kind: "timer", due_at: dueAt().toISOString() },
      ...labels,
    });
    if (answer.status === "completed") return { ok: true, data: undefined };
    return { ok: false, error: waitError(what, answer.status) };
  });
}

export const timers = Object.freeze({
  /** From when it is awaited; whole seconds, rounded up. */
  waitFor(duration: Duration, options: WaitOptions = {}): WaitDelayHandle {
    const seconds = durationSeconds(duration, "timers.waitFor(duration)");
    return timer("timers.waitFor", () => new Date(Date.now() + seconds * 1000), options);
  },
  /** A time that is over already is no wait. */
  waitUntil(
    date: Date | string | { readonly date: Date | string },
    options: WaitOptions = {},
  ): WaitDelayHandle {
    const at = dateOf(date);
    return timer("timers.waitUntil", () => at, options);
  },
});

function dateOf(value: unknown): Date {
  const where = "timers.waitUntil(date)";
  const given = typeof value === "object" && value !== null && "date" in value ? value.date : value;
  const date = given instanceof Date ? given : typeof given === "string" ? new Date(given) : undefined;
  if (date === undefined || Number.isNaN(date.getTime())) {
    fail(where, `must be a Date or an ISO 8601 text such as "2026-06-06T12:00:00Z", got ${show(given)}`);
  }
  return date;
}
