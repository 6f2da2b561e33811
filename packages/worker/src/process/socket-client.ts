/** The other side of a worker's socket: what `helmr-worker status` and `helmr-worker drain` ask. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { z } from "zod";
import { type DrainSummary, drainSummary, type WorkerStatus, workerStatus } from "../status.ts";
import { socketPath } from "./worker-socket.ts";

const answerLimitMs = 15_000;
const drainLine = z.union([z.strictObject({ status: workerStatus }), z.strictObject({ done: drainSummary })]);
const refusal = z.object({ error: z.string() });

/** @throws with what to do when no worker runs there. */
export async function askStatus(dataDir: string): Promise<WorkerStatus> {
  const response = await ask(dataDir, "GET", "/status");
  return workerStatus.parse(JSON.parse(await text(response)));
}

/** Begin the drain and hear of it until it is done. */
export async function askDrain(
  dataDir: string,
  timeoutMs: number | undefined,
  onStatus: (status: WorkerStatus) => void,
): Promise<DrainSummary> {
  const body = timeoutMs === undefined ? {} : { timeout_ms: timeoutMs };
  const response = await ask(dataDir, "POST", "/drain", body);
  for await (const line of createInterface({ input: response })) {
    const told = drainLine.parse(JSON.parse(line));
    if ("done" in told) return told.done;
    onStatus(told.status);
  }
  throw new Error("the worker has ended before its drain was done; its log says why");
}

async function ask(dataDir: string, method: string, path: string, body?: unknown): Promise<IncomingMessage> {
  const outgoing = request({ socketPath: socketPath(dataDir), method, path, timeout: answerLimitMs });
  outgoing.once("timeout", () =>
    outgoing.destroy(new Error(`the worker on ${dataDir} does not answer; its log may say why`)),
  );
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  try {
    const [response] = (await once(outgoing, "response")) as [IncomingMessage];
    if (response.statusCode === 200) return response;
    throw new Error(await reasonOf(response));
  } catch (error) {
    throw explained(error as NodeJS.ErrnoException, dataDir);
  }
}

async function reasonOf(response: IncomingMessage): Promise<string> {
  const said = refusal.safeParse(JSON.parse(await text(response)));
  return said.success ? said.data.error : `the worker answered ${response.statusCode}`;
}

function explained(error: NodeJS.ErrnoException, dataDir: string): Error {
  if (error.code === "ENOENT" || error.code === "ECONNREFUSED")
    return new Error(
      `no worker runs on ${dataDir}; set HELMR_WORKER_DATA_DIR (or --data-dir) to the data folder of the one you mean`,
    );
  if (error.code === "EACCES")
    return new Error(`the worker on ${dataDir} belongs to another user: run this as root`);
  return error;
}
