/** Runs that work, sleep or wait for their turn, and their cancellation. */
import type { Operation } from "../plan.ts";
import { followEvents, untilOver } from "./follow.ts";
import { start } from "./start.ts";
import { answered, pause, type World } from "./world.ts";

type Of<Kind extends Operation["kind"]> = Extract<Operation, { kind: Kind }>;

export async function steps(world: World, operation: Of<"steps">): Promise<void> {
  const payload = { steps: operation.steps, stepMs: operation.stepMs };
  const started = await start(world, operation, "steps", payload, { twice: operation.follow });
  await Promise.all([
    untilOver(world, started),
    ...(operation.follow ? [followEvents(world, started.runId)] : []),
  ]);
}

export async function limited(world: World, operation: Of<"limited">): Promise<void> {
  const payload = { steps: operation.steps, stepMs: operation.stepMs };
  const started = await start(world, operation, "limited", payload, { concurrencyKey: operation.key });
  await untilOver(world, started);
}

export async function sleeps(world: World, operation: Of<"sleeps">): Promise<void> {
  const started = await start(world, operation, "sleeps", { ms: operation.ms });
  await Promise.all([
    untilOver(world, started),
    ...(operation.follow ? [followEvents(world, started.runId)] : []),
  ]);
}

export async function cancel(world: World, operation: Of<"cancel">): Promise<void> {
  const payload = operation.task === "steps" ? { steps: 40, stepMs: 500 } : { ms: 60_000 };
  const started = await start(world, operation, operation.task, payload);
  await pause(world, operation.afterMs);
  const run = await answered(world, (signal) =>
    world.client.runs.cancel(started.runId, { idempotencyKey: operation.id, signal }),
  );
  world.seen.cancels.push({ runId: started.runId, wasTerminal: run.isTerminal });
  await untilOver(world, started);
}
