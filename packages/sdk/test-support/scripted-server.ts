/** An HTTP server that records requests and answers them from a script. */
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface RecordedRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingMessage["headers"];
  /** Parsed JSON; undefined when nothing was sent. */
  readonly body: unknown;
}
export type Answer = (response: ServerResponse, request: RecordedRequest) => void | Promise<void>;

/** Answers with JSON. */
export function json(body: unknown, status = 200, headers: Record<string, string> = {}): Answer {
  return text(JSON.stringify(body), status, { "content-type": "application/json", ...headers });
}

export function text(body: string, status = 200, headers: Record<string, string> = {}): Answer {
  return (response) => {
    response.writeHead(status, headers).end(body);
  };
}

/** Answers with an event stream of these chunks and ends it, or cuts the connection. */
export function stream(
  chunks: readonly (string | Uint8Array)[],
  end: "end" | "cut" | "open" = "end",
): Answer {
  return async (response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.flushHeaders();
    for (const chunk of chunks) await new Promise((resolve) => response.write(chunk, resolve));
    if (end === "end") response.end();
    if (end === "cut") response.destroy();
  };
}

/** Cuts the connection without an answer. */
export const cut: Answer = (response) => {
  response.destroy();
};

export class ScriptedServer {
  readonly requests: RecordedRequest[] = [];
  readonly #server: Server;
  #script: Answer[] = [];

  constructor() {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
  }

  async start(): Promise<this> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Forgets what was, and answers the next requests in this order; more requests are answered with 599. */
  script(...answers: Answer[]): void {
    this.#script = answers;
    this.requests.length = 0;
  }

  /** `METHOD path` of each request. */
  get lines(): string[] {
    return this.requests.map(({ method, path }) => `${method} ${path}`);
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const sent = Buffer.concat(chunks).toString("utf8");
    const recorded: RecordedRequest = {
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body: sent === "" ? undefined : JSON.parse(sent),
    };
    this.requests.push(recorded);
    await (this.#script.shift() ?? text("the script has no more answers", 599))(response, recorded);
  }
}
