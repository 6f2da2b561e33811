/** Streams and waits of sessions on the shared stack, as a program outside uses them. */
import { vi } from "vitest";
import { api, stackClient } from "./client.ts";

/** The data of all records of an output stream. */
async function outputOf<T>(sessionId: string, stream: string): Promise<T[]> {
  const output = stackClient().sessions.open(sessionId).output(stream);
  return (await output.list({ limit: 500 })).map(({ data }) => data as T);
}

/** Waits until `find` finds one in the output stream (2 minutes at most). */
export function outputWhere<T>(
  sessionId: string,
  stream: string,
  find: (records: T[]) => T | undefined,
): Promise<T> {
  return poll(async () => find(await outputOf<T>(sessionId, stream)));
}

/** Waits until the run is parked: no worker holds anything of it. */
export async function parked(runId: string): Promise<void> {
  await poll(async () => {
    const { body } = await api<{ events: { kind: string }[] }>("GET", `/runs/${runId}/events?limit=200`);
    const kinds = body.events.map(({ kind }) => kind);
    return kinds.lastIndexOf("run.parked") > kinds.lastIndexOf("run_wait.completed") || undefined;
  });
}

function poll<T>(ask: () => Promise<T | undefined>): Promise<T> {
  return vi.waitUntil(async () => await ask(), { timeout: 120_000, interval: 250 }) as Promise<T>;
}
