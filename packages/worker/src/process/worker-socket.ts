/**
 * The socket in a worker's data folder, for `helmr-worker status` and `helmr-worker drain`: HTTP for the machine's root.
 *
 *     GET  /status                   WorkerStatus; 503 before the worker is ready
 *     POST /drain {timeout_ms?}      begins the drain; JSON lines: {status} every so often, {done} at last
 *
 *  S1  One worker per data folder: a socket on which somebody answers is not taken over, and its owner is left alone.
 *  S2  Only the owner of the process can connect: the socket has mode 0600, its folder 0700.
 *  S3  Bodies, connections and their times are bounded. Who goes away while a drain is told of changes nothing in it.
 */
import { chmod, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { makeFolder } from "@helmr/process";
import type { Logger } from "pino";
import { z } from "zod";
import { messageOf } from "../failure.ts";
import type { DrainSummary, WorkerStatus } from "../status.ts";

export interface WorkerSocketOptions {
  readonly dataDir: string;
  readonly status: () => Promise<WorkerStatus>;
  readonly drain: (timeoutMs: number | undefined) => Promise<DrainSummary>;
  readonly logger: Logger;
  readonly progressMs?: number;
}

export interface WorkerSocket {
  /** Ends connections; what was written on them arrives. */
  close(): Promise<void>;
}

/** A folder whose socket another worker answers on. */
export class FolderInUseError extends Error {
  override readonly name = "FolderInUseError";
}

/** Node's longest timer. */
export const maxTimeoutMs = 2 ** 31 - 1;
export const drainRequest = z.strictObject({ timeout_ms: z.int().min(0).max(maxTimeoutMs).optional() });

const maxConnections = 32;
const maxBodyBytes = 1024;
const requestTimeoutMs = 10_000;
const probeMs = 2_000;
const defaultProgressMs = 1_000;
/** What the address of a socket may have, without its end. */
const maxPathBytes = 107;

/** The path of the socket. */
export function socketPath(dataDir: string): string {
  const path = join(dataDir, "worker.sock");
  if (Buffer.byteLength(path) > maxPathBytes)
    throw new Error(
      `HELMR_WORKER_DATA_DIR is too long: with /worker.sock it may have ${maxPathBytes} bytes, and has ${Buffer.byteLength(path)}`,
    );
  return path;
}

/** @throws {FolderInUseError} (S1) */
export async function openWorkerSocket(options: WorkerSocketOptions): Promise<WorkerSocket> {
  const path = socketPath(options.dataDir);
  await makeFolder(options.dataDir, 0o700);
  await chmod(options.dataDir, 0o700); // S2
  if (await isAnswered(path))
    throw new FolderInUseError(
      `another worker runs on ${options.dataDir}: give each a HELMR_WORKER_DATA_DIR of its own`,
    );
  await rm(path, { force: true });
  const server = createServer({ requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs });
  server.maxConnections = maxConnections;
  server.on("request", (request, response) => {
    answer(request, response, options).catch((error: unknown) => {
      options.logger.debug({ reason: messageOf(error) }, "a request on the worker's socket failed");
      if (response.headersSent) response.destroy();
      else send(response, 503, { error: messageOf(error) });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  await chmod(path, 0o600); // S2
  return {
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeIdleConnections();
        setTimeout(() => server.closeAllConnections(), requestTimeoutMs).unref();
      }),
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  options: WorkerSocketOptions,
): Promise<void> {
  const route = `${request.method} ${request.url}`;
  if (route === "GET /status") {
    request.resume();
    send(response, 200, await options.status());
  } else if (route === "POST /drain") {
    const body = drainRequest.safeParse(await jsonBody(request));
    if (body.success) await tellDrain(response, options, body.data.timeout_ms);
    else send(response, 400, { error: z.prettifyError(body.error).slice(0, 1000) });
  } else {
    request.resume();
    send(response, 404, { error: "there is GET /status and POST /drain" });
  }
}

/** S3 */
async function tellDrain(
  response: ServerResponse,
  { status, drain, progressMs = defaultProgressMs }: WorkerSocketOptions,
  timeoutMs: number | undefined,
): Promise<void> {
  await status(); // Not ready yet: nothing has begun.
  const done = drain(timeoutMs);
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  const line = (value: unknown) => {
    if (response.writable && !response.writableNeedDrain) response.write(`${JSON.stringify(value)}\n`);
  };
  const tell = async () => line({ status: await status() });
  await tell();
  const timer = setInterval(() => void tell().catch(() => undefined), progressMs);
  try {
    response.end(`${JSON.stringify({ done: await done })}\n`);
  } finally {
    clearInterval(timer);
  }
}

async function jsonBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response
    .writeHead(status, { "content-type": "application/json", connection: "close" })
    .end(JSON.stringify(body));
}

/** Whether somebody listens there. One that is there and does not accept within the limit is somebody, too. */
async function isAnswered(path: string): Promise<boolean> {
  return await new Promise((resolve) => {
    const socket = connect(path);
    const end = (isThere: boolean) => {
      socket.destroy();
      resolve(isThere);
    };
    socket.setTimeout(probeMs, () => end(true));
    socket.once("connect", () => end(true));
    socket.once("error", ({ code }: NodeJS.ErrnoException) =>
      end(code !== "ENOENT" && code !== "ECONNREFUSED"),
    );
  });
}
