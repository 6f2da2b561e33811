/** Starts, each with a key of its own: however often it is sent, it is one session. */
import type { SessionStartOptions } from "@helmr/sdk";
import { answered, type World } from "./world.ts";

export interface Started {
  readonly sessionId: string;
  readonly runId: string;
}

/** Two clients send it at the same time, when `twice`. */
export async function start(
  world: World,
  operation: { readonly id: string },
  taskId: string,
  payload: Readonly<Record<string, unknown>>,
  options: SessionStartOptions & { readonly suffix?: string; readonly twice?: boolean } = {},
): Promise<Started> {
  const { suffix = "", twice = false, ...rest } = options;
  const key = `${operation.id}${suffix}`;
  const send = async (): Promise<Started> => {
    const { session, run } = await answered(world, (signal) =>
      world.client.sessions.start(taskId, { op: key, ...payload }, { ...rest, idempotencyKey: key, signal }),
    );
    const started = { sessionId: session.id, runId: run.id };
    world.seen.starts.push({ operation: operation.id, key, ...started });
    return started;
  };
  const [first] = await Promise.all([send(), ...(twice ? [send()] : [])]);
  return first;
}
