/**
 * A load balancer: requests go in turn to the servers whose `/readyz` is 200, over connections that are kept. One that
 * refuses a connection is passed over, as every balancer does; nothing else is tried twice.
 */
import { once } from "node:events";
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

const askEveryMs = 50;

export interface ReadyProxy {
  readonly url: string;
  /** What happened between the proxy and the servers that a client would see. */
  readonly failures: readonly string[];
  /** Answers per server. */
  answered(url: string): number;
  isReady(url: string): boolean;
  add(url: string): void;
  remove(url: string): void;
  stop(): Promise<void>;
}

interface Upstream {
  readonly url: string;
  readonly agent: Agent;
  ready: boolean;
  answered: number;
}

export async function startReadyProxy(): Promise<ReadyProxy> {
  const upstreams = new Map<string, Upstream>();
  const failures: string[] = [];
  let turn = 0;
  let stopped = false;

  const watch = async (upstream: Upstream) => {
    while (!stopped && upstreams.get(upstream.url) === upstream) {
      upstream.ready = await fetch(`${upstream.url}/readyz`, { signal: AbortSignal.timeout(10_000) }).then(
        async (answer) => answer.body?.cancel().then(() => answer.status === 200) ?? false,
        () => false,
      );
      await sleep(askEveryMs);
    }
    upstream.agent.destroy();
  };

  const forward = (request: IncomingMessage, body: Buffer, response: ServerResponse, passedOver: number) => {
    const ready = [...upstreams.values()].filter((upstream) => upstream.ready);
    turn += 1;
    const upstream = ready[turn % ready.length];
    const fail = (why: string) => {
      failures.push(`${request.method} ${request.url}: ${why}`);
      response.destroy();
    };
    if (upstream === undefined) return fail("no server is ready");
    const { method, headers, url = "/" } = request;
    const { agent } = upstream;
    const onward = httpRequest(new URL(url, upstream.url), { method, headers, agent }, (answer) => {
      upstream.answered += 1;
      const { connection: _ours, "keep-alive": _too, ...passedOn } = answer.headers;
      response.writeHead(answer.statusCode ?? 502, passedOn);
      pipeline(answer, response, (error) => {
        if (error && !response.destroyed) fail(`cut in its answer: ${error.message}`);
      });
    });
    onward.once("error", (error: NodeJS.ErrnoException) => {
      if (response.headersSent || response.destroyed) return;
      upstream.ready &&= error.code !== "ECONNREFUSED";
      if (error.code === "ECONNREFUSED" && passedOver < 3) forward(request, body, response, passedOver + 1);
      else fail(error.message);
    });
    response.once("close", () => onward.destroy());
    onward.end(body);
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.once("end", () => forward(request, Buffer.concat(chunks), response, 0));
  });
  // Its own clients keep their connections for as long as the test takes.
  server.keepAliveTimeout = 0;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    failures,
    answered: (url) => upstreams.get(url)?.answered ?? 0,
    isReady: (url) => upstreams.get(url)?.ready ?? false,
    add: (url) => {
      const upstream = { url, agent: new Agent({ keepAlive: true }), ready: false, answered: 0 };
      upstreams.set(url, upstream);
      void watch(upstream);
    },
    remove: (url) => void upstreams.delete(url),
    stop: async () => {
      stopped = true;
      for (const { agent } of upstreams.values()) agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
