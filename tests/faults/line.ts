/**
 * A TCP line between two parts, with one address for a far end that comes and goes, or for several of which any will do.
 *
 *   open      connections go to the far ends in turn; one that nobody answers goes to the next
 *   refused   there are no connections: those that there were are reset, new ones at once
 *   silent    nothing moves and nothing breaks, as behind a dead switch: what was on its way comes when it is open again
 *   slow      each piece comes late
 */
import { once } from "node:events";
import {
  type AddressInfo,
  connect,
  createServer,
  type NetConnectOpts,
  type Server,
  type Socket,
} from "node:net";
import { Transform } from "node:stream";

export type LineState = "open" | "refused" | "silent" | "slow";

interface Connection {
  readonly near: Socket;
  far: Socket | undefined;
}

const slowPieceMs = 150;

export class Line {
  readonly #farEnds: () => readonly NetConnectOpts[];
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  /** Pieces that wait until the line is open again. */
  readonly #held: (() => void)[] = [];
  #state: LineState = "open";
  #turn = 0;

  /** `farEnds` is asked at each connection. */
  constructor(farEnds: () => readonly NetConnectOpts[]) {
    this.#farEnds = farEnds;
    this.#server = createServer({ noDelay: true }, (near) => this.#accept(near));
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  set state(state: LineState) {
    this.#state = state;
    if (state === "refused") this.cut();
    if (state === "silent") return;
    for (const pass of this.#held.splice(0)) pass();
    for (const connection of this.#connections) {
      // It came while nothing moved.
      if (connection.far === undefined) this.#connect(connection);
    }
  }

  /** Resets every connection there is. */
  cut(): void {
    for (const { near, far } of this.#connections) {
      near.resetAndDestroy();
      far?.destroy(); // may be a unix socket, which knows no reset
    }
    this.#connections.clear();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #accept(near: Socket): void {
    if (this.#state === "refused") {
      near.resetAndDestroy();
      return;
    }
    const connection: Connection = { near, far: undefined };
    this.#connections.add(connection);
    near.on("error", () => this.#drop(connection));
    near.on("close", () => this.#drop(connection));
    if (this.#state !== "silent") this.#connect(connection);
  }

  #connect(connection: Connection, tried = 0): void {
    const ends = this.#farEnds();
    const end = ends[(this.#turn + tried) % Math.max(1, ends.length)];
    if (end === undefined || tried >= ends.length || connection.near.destroyed) {
      connection.near.resetAndDestroy();
      this.#drop(connection);
      return;
    }
    const far = connect({ ...end, noDelay: true } as NetConnectOpts);
    const isUnreachable = () => this.#connect(connection, tried + 1);
    far.once("error", isUnreachable);
    far.once("connect", () => {
      this.#turn += 1;
      far.off("error", isUnreachable);
      this.#join(connection, far);
    });
  }

  #join(connection: Connection, far: Socket): void {
    const { near } = connection;
    connection.far = far;
    far.on("error", () => this.#drop(connection));
    far.on("close", () => this.#drop(connection));
    if (near.destroyed) {
      this.#drop(connection);
      return;
    }
    near.pipe(this.#gate()).pipe(far);
    far.pipe(this.#gate()).pipe(near);
  }

  #gate(): Transform {
    return new Transform({
      transform: (piece, _encoding, done) => {
        const pass = () => done(null, piece);
        if (this.#state === "silent") this.#held.push(pass);
        else if (this.#state === "slow") setTimeout(pass, slowPieceMs);
        else pass();
      },
    });
  }

  #drop(connection: Connection): void {
    this.#connections.delete(connection);
    connection.near.destroy();
    connection.far?.destroy();
  }
}
