/** A TCP proxy that does to the bytes of a connection what a bad line, or a bad device on the way, does. */
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** Told of each piece; what it returns is passed on, undefined cuts the connection. `at`: bytes of this connection before. */
export type Passage = (piece: Buffer, at: number) => Buffer | undefined;

export interface FaultyLink {
  readonly endpoint: string;
  /** From the client to the server, and back. */
  toServer: Passage;
  toClient: Passage;
  /** Awaited before a connection goes on to the server. */
  beforeConnect: () => Promise<void>;
  connections(): number;
  close(): Promise<void>;
}

const asIs: Passage = (piece) => piece;

export async function faultyLinkTo(endpoint: string): Promise<FaultyLink> {
  const { hostname, port } = new URL(endpoint);
  let count = 0;
  const open = new Set<Socket>();
  const server = createServer((client) => {
    count += 1;
    const upstream = connect(Number(port), hostname);
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        open.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    void link.beforeConnect().then(() => pass(client, upstream, (piece, at) => link.toServer(piece, at)));
    pass(upstream, client, (piece, at) => link.toClient(piece, at));
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port was given");
  const link: FaultyLink = {
    endpoint: `http://127.0.0.1:${address.port}`,
    toServer: asIs,
    toClient: asIs,
    beforeConnect: async () => undefined,
    connections: () => count,
    close: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
  return link;
}

function pass(from: Socket, to: Socket, passage: Passage): void {
  let at = 0;
  from.on("data", (piece: Buffer) => {
    const passed = passage(piece, at);
    at += piece.length;
    if (passed === undefined) {
      from.destroy();
      to.destroy();
      return;
    }
    if (!to.write(passed)) {
      from.pause();
      to.once("drain", () => from.resume());
    }
  });
  from.on("end", () => to.end());
}
