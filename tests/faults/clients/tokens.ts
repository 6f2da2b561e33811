/** A run that asks, and somebody who answers: at once, while its guest waits, or when it is parked; others try, too. */
import type { Operation } from "../plan.ts";
import { untilOver } from "./follow.ts";
import { start } from "./start.ts";
import { answered, pause, statusOf, type World } from "./world.ts";

export async function asks(world: World, operation: Extract<Operation, { kind: "asks" }>): Promise<void> {
  const started = await start(world, operation, "asks", { tokens: operation.tokens });
  const answers: Promise<void>[] = [];
  await untilOver(world, started, (entry) => {
    if (typeof entry.asks !== "string") return;
    for (let rival = 0; rival <= operation.rivals; rival += 1)
      answers.push(complete(world, entry.asks, `answer ${rival} of ${entry.asks}`, operation.answerAfterMs));
  });
  await Promise.all(answers);
}

async function complete(world: World, tokenId: string, value: string, afterMs: number): Promise<void> {
  await pause(world, afterMs);
  try {
    const { status } = await answered(world, (signal) =>
      world.client.tokens.complete(tokenId, value, { signal }),
    );
    world.seen.completions.push({ tokenId, value, status });
  } catch (error) {
    if (statusOf(error) !== 409) throw error;
    world.seen.completions.push({ tokenId, value, status: "refused" });
  }
}
