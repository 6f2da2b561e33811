/** A run that listens, and somebody who speaks. Each input has a key, so that it may be sent again. */
import type { Operation } from "../plan.ts";
import { untilOver } from "./follow.ts";
import { start } from "./start.ts";
import { answered, pause, type World } from "./world.ts";

export async function listens(
  world: World,
  operation: Extract<Operation, { kind: "listens" }>,
): Promise<void> {
  const { inputs, everyMs } = operation;
  const started = await start(world, operation, "listens", { inputs });
  await Promise.all([
    speak(world, operation.id, started.sessionId, inputs, everyMs),
    untilOver(world, started),
  ]);
}

async function speak(
  world: World,
  operation: string,
  sessionId: string,
  inputs: number,
  everyMs: number,
): Promise<void> {
  const input = world.client.sessions.open(sessionId).input("answers");
  for (let n = 1; n <= inputs; n += 1) {
    await pause(world, everyMs);
    const key = `${operation} input ${n}`;
    const sent = await answered(world, (signal) =>
      input.send({ n, last: n === inputs }, { idempotencyKey: key, signal }),
    );
    world.seen.inputs.push({ sessionId, key, n, sequence: sent.sequence, recordId: sent.id });
  }
}
