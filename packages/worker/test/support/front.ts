/** One address for a control plane that comes and goes, and a line on which answers can be lost. */
import { once } from "node:events";
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { pipeline } from "node:stream";

export class Front {
  /** Undefined: nobody is there, connections are reset. */
  target: string | undefined;
  /** Called before the answer to a request is handed on; true: it is lost, and the connection with it. */
  loses: (path: string, answer: IncomingMessage) => boolean = () => false;
  readonly #server: Server = createServer((request, response) => this.#forward(request, response));

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #forward(request: IncomingMessage, response: ServerResponse): void {
    const { url: path = "/", method, headers, socket } = request;
    if (this.target === undefined) {
      socket.destroy();
      return;
    }
    const onward = httpRequest(new URL(path, this.target), { method, headers, agent: false }, (answer) => {
      if (this.loses(path, answer)) {
        answer.destroy();
        socket.destroy();
        return;
      }
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      pipeline(answer, response, () => undefined); // Cut when the control plane dies in the middle of it.
    });
    onward.once("error", () => socket.destroy());
    response.once("close", () => onward.destroy());
    request.pipe(onward);
  }
}
