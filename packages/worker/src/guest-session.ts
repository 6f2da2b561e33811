/**
 * A guest with its agent connected: typed messages both ways, and one answer to how it ended.
 *
 * | phase    | enters by              | messages of the guest        | leaves by                          |
 * |----------|------------------------|------------------------------|------------------------------------|
 * | greeting | startGuestSession      | `ready` only                 | ready -> idle; time limit -> over  |
 * | idle     | `ready`                | none is legitimate           | `listen` -> serving                |
 * | serving  | `listen`               | go to the listener, in order | end of the guest -> over           |
 * | serving  | restoredGuestSession   | go to the listener, in order | end of the guest -> over           |
 * | over     | exit, violation, kill  | dropped                      | never                              |
 *
 *  I1  Whatever breaks the protocol (invalid frame, message in the wrong phase) ends the session as a violation and
 *      kills the guest.
 *  I2  `ended` resolves after everything the guest managed to send was given to the listener.
 */
import {
  type GuestMessage,
  guestMessage,
  type LinkSnapshot,
  limits,
  type ProtocolError,
  protocolVersion,
  ReliableLink,
  type WorkerMessage,
} from "@helmr/guest-protocol";
import type { Guest, GuestExit, GuestSpec, Isolation } from "@helmr/isolation";
import { headOf, tailOf } from "./failure.ts";
import { printable } from "./output-tail.ts";

export type SessionEnd =
  | { readonly kind: "exit"; readonly exit: GuestExit; readonly stderr: string }
  | { readonly kind: "violation"; readonly reason: string };

/** The agent did not come up; the message says which layer and carries what it wrote to stderr. */
export class GuestStartError extends Error {
  override readonly name = "GuestStartError";
}

type Listener = (message: GuestMessage) => void | Promise<void>;

/** Cold start measured at 0.3 s; a loaded host takes several. */
const defaultReadyTimeoutMs = 30_000;
/** After the guest's end: for messages it sent before. */
const drainTimeoutMs = 10_000;
const stderrBytes = 8 * 1024;

export interface GuestSession {
  readonly guest: Guest;
  /** Of the image's own node, like "24.9.0". */
  readonly nodeVersion: string;
  readonly ended: Promise<SessionEnd>;
  send(message: WorkerMessage): Promise<void>;
  /** Receive messages from now on; the next one waits until the listener's promise is done. */
  listen(listener: Listener): void;
  /**
   * Everything the guest sent is handled, and nothing goes to or from it until `release`: then it can be saved. Rejects,
   * and the session goes on, when the guest does not answer in time.
   */
  hold(): Promise<void>;
  /** The link's state, for `restoredGuestSession`; while held only. */
  snapshot(): LinkSnapshot;
  release(): void;
  /** Kill and clean up. */
  destroy(): Promise<void>;
}

/**
 * A session with a guest that goes on from the checkpoint with this link: messages go to `listener` at once, and the first to
 * send is `run.restored`.
 */
export function restoredGuestSession(guest: Guest, link: LinkSnapshot, listener: Listener): GuestSession {
  return new Session(guest, { link, listener });
}

/** Start a guest whose first process is the agent; resolves when it said `ready`. Leaves nothing behind when it rejects. */
export async function startGuestSession(
  isolation: Isolation,
  spec: GuestSpec,
  options: { readonly readyTimeoutMs?: number; readonly signal?: AbortSignal } = {},
): Promise<GuestSession> {
  const guest = await isolation.start(spec);
  const session = new Session(guest);
  try {
    await session.ready(options.readyTimeoutMs ?? defaultReadyTimeoutMs, options.signal);
    return session;
  } catch (error) {
    await session.destroy();
    throw error;
  }
}

class Session implements GuestSession {
  readonly guest: Guest;
  readonly ended: Promise<SessionEnd>;
  nodeVersion = "";
  readonly #link: ReliableLink<WorkerMessage, GuestMessage>;
  readonly #readiness = Promise.withResolvers<void>();
  readonly #detached = Promise.withResolvers<void>();
  #phase: "greeting" | "idle" | "serving" | "over" = "greeting";
  #listener: Listener = () => undefined;
  #violation: string | undefined;
  #stderr = "";

  constructor(guest: Guest, restored?: { readonly link: LinkSnapshot; readonly listener: Listener }) {
    this.guest = guest;
    if (restored !== undefined) {
      this.#phase = "serving";
      this.#listener = restored.listener;
    }
    this.#link = new ReliableLink<WorkerMessage, GuestMessage>({
      side: "worker",
      incomingSchema: guestMessage,
      onMessage: (message) => this.#receive(message),
      onProtocolError: (error: ProtocolError) => this.#violate(error.message),
      onDetach: () => this.#detached.resolve(),
      ...(restored === undefined ? {} : { from: restored.link }),
    });
    guest.stderr.on("data", (chunk: Buffer) => {
      this.#stderr = tailOf(this.#stderr + chunk.toString("utf8"), stderrBytes);
    });
    this.#link.attach(guest.stream);
    this.ended = this.#watch();
    this.#readiness.promise.catch(() => undefined);
  }

  /** Resolves at `ready`; rejects at the guest's end, a violation, the time limit or the signal. */
  async ready(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const timer = setTimeout(() => {
      this.#readiness.reject(
        new GuestStartError(`guest runtime: the agent was not ready within ${timeoutMs} ms`),
      );
    }, timeoutMs);
    const onAbort = () => this.#readiness.reject(signal?.reason);
    signal?.addEventListener("abort", onAbort);
    try {
      signal?.throwIfAborted();
      await this.#readiness.promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  send(message: WorkerMessage): Promise<void> {
    return this.#link.send(message);
  }

  listen(listener: Listener): void {
    if (this.#phase !== "idle") throw new Error(`the session is ${this.#phase}, not idle`);
    this.#phase = "serving";
    this.#listener = listener;
  }

  hold(): Promise<void> {
    return this.#link.quiesce();
  }

  snapshot(): LinkSnapshot {
    return this.#link.snapshot();
  }

  release(): void {
    this.#link.release();
  }

  async destroy(): Promise<void> {
    this.#phase = "over";
    await this.#link.close();
    this.#detached.resolve();
    await this.guest.destroy();
  }

  #receive(message: GuestMessage): void | Promise<void> {
    if (this.#phase === "serving") return this.#listener(message);
    if (this.#phase === "over") return;
    if (this.#phase === "idle" || message.type !== "ready")
      return this.#violate(`sent ${message.type} before it was asked for anything`);
    if (message.protocol !== protocolVersion)
      return this.#violate(`speaks protocol ${message.protocol}, not ${protocolVersion}`);
    this.nodeVersion = headOf(printable(message.node_version), 64);
    this.#phase = "idle";
    this.#readiness.resolve();
  }

  /** I1 */
  #violate(reason: string): void {
    if (this.#violation !== undefined) return;
    this.#violation = headOf(printable(reason), 500);
    this.#phase = "over";
    this.#readiness.reject(
      new GuestStartError(`guest runtime: the guest broke the protocol: ${this.#violation}`),
    );
    this.#detached.resolve();
    void this.guest.destroy();
  }

  async #watch(): Promise<SessionEnd> {
    const exit = await this.guest.exited;
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, drainTimeoutMs);
    });
    await Promise.race([this.#detached.promise, limit]); // I2
    clearTimeout(timer);
    const stderr = printableLines(this.#stderr);
    this.#readiness.reject(
      new GuestStartError(
        `guest runtime: the agent did not start (${exit.reason})${stderr === "" ? "" : `: ${stderr}`}`,
      ),
    );
    this.#phase = "over";
    await this.#link.close();
    return this.#violation === undefined
      ? { kind: "exit", exit, stderr }
      : { kind: "violation", reason: this.#violation };
  }
}

function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n").trim();
}

/** A JSON text of the guest, checked and bounded; undefined when it is none. */
export function checkedJson(
  text: string,
  maxBytes: number = limits.outputBytes,
): { readonly value: unknown } | undefined {
  if (Buffer.byteLength(text) > maxBytes) return undefined;
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}
