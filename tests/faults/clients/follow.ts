/** Followers: of a run's events, and of the records of its session. */
import type { SeenRecord } from "../seen.ts";
import { answered, pause, type World } from "./world.ts";

/** Every event that the SDK shows, through all outages, until the run is over. */
export async function followEvents(world: World, runId: string): Promise<void> {
  const cursors: number[] = [];
  let complete = false;
  try {
    for await (const event of world.client.runs.events.subscribe(runId, { signal: world.signal }))
      cursors.push(event.cursor);
    complete = true;
  } finally {
    world.seen.follows.push({ runId, cursors, complete });
  }
}

/** The ledger of a session, read on and on. */
export class LedgerReader {
  readonly #world: World;
  readonly #sessionId: string;
  readonly #records: SeenRecord[] = [];

  constructor(world: World, sessionId: string) {
    this.#world = world;
    this.#sessionId = sessionId;
    world.seen.readings.push({ sessionId, records: this.#records });
  }

  /** What came since the last call. */
  async next(): Promise<Record<string, unknown>[]> {
    const { client } = this.#world;
    const cursor = this.#records.at(-1)?.sequence ?? 0;
    const output = client.sessions.open(this.#sessionId).output<Record<string, unknown>>("ledger");
    const records = await answered(this.#world, (signal) => output.list({ cursor, limit: 500, signal }));
    for (const { sequence, id, data } of records)
      this.#records.push({ sequence, id, data: JSON.stringify(data) });
    return records.map(({ data }) => data);
  }
}

/** Hands on what the ledger says until the run is over, and once more after that. */
export async function untilOver(
  world: World,
  { sessionId, runId }: { readonly sessionId: string; readonly runId: string },
  onEntry: (entry: Record<string, unknown>) => void = () => undefined,
): Promise<void> {
  const reader = new LedgerReader(world, sessionId);
  for (;;) {
    const run = await answered(world, (signal) => world.client.runs.retrieve(runId, { signal }));
    for (const entry of await reader.next()) onEntry(entry);
    if (run.isTerminal) return;
    await pause(world, 700);
  }
}
