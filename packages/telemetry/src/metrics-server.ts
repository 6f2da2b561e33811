/**
 * The listener for operators, apart from anything public: `/metrics` (Prometheus), `/healthz` (the process answers), `/readyz`
 * (it can do its work: 200, else 503).
 *
 *  I1  Scrapes that come together are answered by one rendering.
 *  I2  `ready` is asked once at a time, and what takes longer than its limit is not ready.
 *  I3  Nothing here needs a credential: the listener belongs on an address that only the monitoring reaches.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Logger } from "pino";
import type { MetricsRegistry } from "./registry.ts";

/** As HELMR_METRICS_LISTEN gives it; port 0 picks a free one. */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface MetricsServerOptions {
  readonly listen: ListenAddress;
  readonly registry: MetricsRegistry;
  /** Whether the process can do its work now; a rejection counts as no. */
  readonly ready: () => Promise<boolean> | boolean;
  readonly logger: Logger;
}

export interface MetricsServer {
  /** Where it listens. */
  readonly url: string;
  /** Ends open connections; safe to call twice. */
  close(): Promise<void>;
}

const readyLimitMs = 2_000;
const requestTimeoutMs = 10_000;
const maxConnections = 100;

type Answer = { readonly status: number; readonly type: string; readonly body: string };

/** @throws when the address cannot be listened on; the message names HELMR_METRICS_LISTEN. */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const answers: Readonly<Record<string, () => Promise<Answer>>> = {
    "/metrics": shared(() => render(options.registry)), // I1
    "/healthz": async () => json(200, { status: "ok" }),
    "/readyz": shared(async () => {
      const isReady = await withinLimit(options.ready); // I2
      return json(isReady ? 200 : 503, { status: isReady ? "ready" : "not_ready" });
    }),
  };
  const server = createServer({ requestTimeout: requestTimeoutMs, headersTimeout: requestTimeoutMs });
  server.maxConnections = maxConnections;
  server.on("request", (request, response) => {
    void answer(request, response, answers, options.logger);
  });
  await listen(server, options.listen);
  const { port } = server.address() as AddressInfo;
  const { host } = options.listen;
  let closed: Promise<void> | undefined;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${port}`,
    close: () => {
      closed ??= new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      return closed;
    },
  };
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  answers: Readonly<Record<string, () => Promise<Answer>>>,
  logger: Logger,
): Promise<void> {
  request.resume();
  const path = request.url?.split("?", 1)[0] ?? "";
  const make = Object.hasOwn(answers, path) ? answers[path] : undefined;
  const { status, type, body } = await answerOf(request.method, make).catch((error: unknown) => {
    logger.error({ err: error, path }, "the listener for metrics failed to answer");
    return text(500, "internal server error\n");
  });
  response.writeHead(status, {
    "content-type": type,
    "content-length": Buffer.byteLength(body),
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

async function answerOf(
  method: string | undefined,
  make: (() => Promise<Answer>) | undefined,
): Promise<Answer> {
  if (make === undefined) return text(404, "there are /metrics, /healthz and /readyz here\n");
  if (method !== "GET" && method !== "HEAD") return text(405, "GET only\n");
  return await make();
}

async function render(registry: MetricsRegistry): Promise<Answer> {
  return { status: 200, type: registry.contentType, body: await registry.metrics() };
}

const text = (status: number, body: string): Answer => ({ status, type: "text/plain; charset=utf-8", body });
const json = (status: number, value: unknown): Answer => ({
  status,
  type: "application/json",
  body: JSON.stringify(value),
});

/** Calls that come while one is under way get its result. */
function shared<T>(make: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | undefined;
  return () => {
    underWay ??= make().finally(() => {
      underWay = undefined;
    });
    return underWay;
  };
}

async function withinLimit(ready: () => Promise<boolean> | boolean): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), readyLimitMs);
  });
  try {
    return await Promise.race([(async () => await ready())(), limit]);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
  }
}

function listen(server: Server, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why = cause.code === "EADDRINUSE" ? "is in use" : `cannot be listened on (${cause.code})`;
      reject(
        new Error(`HELMR_METRICS_LISTEN: ${host}:${port} ${why}; choose another host:port, or leave it out`, {
          cause,
        }),
      );
    });
    server.listen(port, host, () => {
      server.removeAllListeners("error");
      server.on("error", () => undefined);
      resolve();
    });
  });
}
