/**
 * Claimed slots become sessions, a few at a time. What comes of each is decided in the database (packages/store/src/schedules):
 * any number of dispatchers may try.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError } from "@helmr/api";
import { type ClaimedFire, type FireOutcome, failFire, fireSchedule, workTopic } from "@helmr/store";
import type { DispatcherContext } from "./context.ts";

/** When each schedule is to be looked at again, by its id; a schedule that is missing has nothing planned, or is another's. */
export async function fireAll(
  context: DispatcherContext,
  fires: readonly ClaimedFire[],
): Promise<Map<string, Date>> {
  const next = new Map<string, Date>();
  const waiting = [...fires];
  const work = async (): Promise<void> => {
    for (let fire = waiting.shift(); fire !== undefined; fire = waiting.shift()) {
      const outcome = await fireOne(context, fire);
      measure(context, fire, outcome);
      if (outcome.status === "fired" && outcome.workerGroupId !== undefined)
        context.bus.publish(workTopic(outcome.workerGroupId));
      if (outcome.status !== "superseded" && outcome.dueAt !== null) next.set(fire.id, outcome.dueAt);
    }
  };
  const { triggerConcurrency } = context.schedules.settings;
  await Promise.all(Array.from({ length: Math.min(triggerConcurrency, fires.length) }, work));
  return next;
}

function measure(
  { metrics, schedules }: DispatcherContext,
  fire: ClaimedFire,
  { status }: FireOutcome,
): void {
  metrics.schedules.fires.inc({ outcome: status });
  if (status !== "fired") return;
  const lagMs = schedules.clock.nowMs() - fire.dueAt.getTime();
  metrics.schedules.fireLag.observe(Math.max(0, lagMs) / 1000);
}

/** Never rejects: a failure that cannot be recorded leaves the lease to end by itself. */
async function fireOne(context: DispatcherContext, fire: ClaimedFire): Promise<FireOutcome> {
  const { db, logger } = context;
  const { maxAttempts, jitterMs } = context.schedules.settings;
  const about = { scheduleId: fire.id, slot: fire.slot.toISOString(), attempt: fire.attempt };
  const span = context.tracing.start("schedule fire", {
    kind: "producer",
    attributes: { "helmr.schedule_id": fire.id, "helmr.environment_id": fire.scope.environmentId },
  });
  try {
    // Its attempts ended without a word: with the dispatcher, perhaps because of it.
    if (fire.attempt > maxAttempts)
      throw new ApiError(409, "starting the session did not come to an end; see the dispatcher's log");
    const traceContext = span.traceparent;
    const outcome = await throughOutages(() => fireSchedule(db, fire, { jitterMs, traceContext }));
    if (outcome.status === "fired") span.set({ "helmr.run_id": outcome.runId });
    logger.debug({ ...about, outcome: outcome.status }, "a schedule was due");
    return outcome;
  } catch (error) {
    span.fail("the session was not started");
    try {
      const outcome = await throughOutages(() => failFire(db, fire, error, { jitterMs, maxAttempts }));
      // What the task or its environment lacks is its owner's to see; the rest is ours.
      logger[isOurs(error) ? "error" : "info"](
        { ...about, err: error, outcome: outcome.status },
        "a fire failed",
      );
      return outcome;
    } catch (unrecorded) {
      logger.warn(
        { ...about, err: unrecorded },
        "a failed fire could not be recorded; its lease ends by itself",
      );
      return { status: "superseded" };
    }
  } finally {
    span.end();
  }
}

function isOurs(error: unknown): boolean {
  return !(error instanceof ApiError) || error.status >= 500;
}

/** A database that restarts is back within seconds: that is no failure of the schedule's. */
const pausesMs = [500, 1_000, 2_000, 4_000];

async function throughOutages<T>(work: () => Promise<T>): Promise<T> {
  for (const pauseMs of pausesMs) {
    try {
      return await work();
    } catch (error) {
      if (!isOurs(error)) throw error;
      await sleep(pauseMs * (0.5 + Math.random()));
    }
  }
  return await work();
}
