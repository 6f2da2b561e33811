/** A schedule of every minute, which stays, is turned off or deleted after a while. */
import type { Operation } from "../plan.ts";
import { answered, pause, statusOf, type World } from "./world.ts";

const livesMs = 45_000;

export async function schedule(
  world: World,
  operation: Extract<Operation, { kind: "schedule" }>,
): Promise<void> {
  const { client, seen } = world;
  const id = await create(world, operation.id);
  if (operation.end === "keep") {
    seen.schedules.push({ id, end: "kept" });
    return;
  }
  await pause(world, livesMs);
  const ended = operation.end === "delete" ? "deleted" : "deactivated";
  try {
    await answered(world, async (signal) => {
      if (operation.end === "delete") await client.schedules.delete(id, { signal });
      else await client.schedules.deactivate(id, { signal });
    });
  } catch (error) {
    // A deletion whose answer was lost.
    if (statusOf(error) !== 404 || operation.end !== "delete") throw error;
  }
  seen.schedules.push({ id, end: ended });
}

/** The key is taken when an answer was lost: then it is ours. */
async function create(world: World, key: string): Promise<string> {
  const { schedules } = world.client;
  const input = { task: "ticks", cron: "* * * * *", deduplicationKey: key };
  try {
    return (await answered(world, (signal) => schedules.create(input, { signal }))).id;
  } catch (error) {
    if (statusOf(error) !== 409) throw error;
    const list = await answered(world, (signal) => schedules.list({ signal }));
    const found = list.find(({ deduplicationKey }) => deduplicationKey === key);
    if (found === undefined) throw new Error(`schedule ${key} is said to exist, and is not listed`);
    return found.id;
  }
}
