/** An HTTP server whose answers a test writes, over a real socket; it keeps what it was asked. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}
/** Answers with JSON of the status; a function writes the response itself. */
export type Answer =
  | { readonly status?: number; readonly json?: unknown; readonly headers?: Record<string, string> }
  | ((asked: Asked, response: ServerResponse) => void | Promise<void>);

export interface ScriptedServer extends AsyncDisposable {
  readonly url: string;
  readonly asked: readonly Asked[];
}

/** Routes are `GET /path` below `/api`; anything else is 404 as the real server answers it. */
export async function scriptedServer(routes: Readonly<Record<string, Answer>>): Promise<ScriptedServer> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const url = new URL(request.url ?? "/", "http://localhost");
    const one: Asked = {
      method: request.method ?? "",
      path: url.pathname.replace(/^\/api/, ""),
      query: url.searchParams,
      headers: request.headers,
      body: Buffer.concat(chunks),
    };
    asked.push(one);
    const route = routes[`${one.method} ${one.path}`] ?? { status: 404, json: { error: "not found" } };
    if (typeof route === "function") return route(one, response);
    response.writeHead(route.status ?? 200, { "content-type": "application/json", ...route.headers });
    response.end(route.json === undefined ? undefined : JSON.stringify(route.json));
  }
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

export interface Frame {
  readonly id: number;
  readonly data: unknown;
}

/** Streams frames after `Last-Event-ID`, as the real server does, then ends. */
export function stream(event: string, frames: readonly Frame[]): Answer {
  return (asked, response) => {
    const after = Number(asked.headers["last-event-id"] ?? 0);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(": keep-alive\n\n");
    for (const frame of frames) if (frame.id > after) response.write(frameText(event, frame));
    response.end();
  };
}

export function frameText(event: string, frame: Frame): string {
  return `id: ${frame.id}\nevent: ${event}\ndata: ${JSON.stringify(frame.data)}\n\n`;
}
