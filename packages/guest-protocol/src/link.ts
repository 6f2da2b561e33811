/**
 * ReliableLink: numbered, acknowledged messages over a byte stream that may be cut and replaced.
 *
 * | state    | entered by                   | does                                        | left by                      |
 * |----------|------------------------------|---------------------------------------------|------------------------------|
 * | detached | construction, stream cut     | accepts messages into the window            | attach -> greeting           |
 * | greeting | attach                       | has sent `hello {last_received}`            | peer's hello -> open; cut    |
 * | open     | peer's hello                 | has resent what the peer misses; sends data | cut -> detached              |
 * | held     | quiesce                      | neither writes, reads nor delivers          | release -> open; cut, close  |
 * | closed   | close(), ProtocolError       | rejects waiting and later sends             | never                        |
 *
 * Invariants:
 *  L1  Messages are numbered 1, 2, 3, ... per direction in the order of `send` and delivered in that order, each once.
 *  L2  A message is kept until the peer acknowledged it, by `ack` or by the `last_received` of its hello.
 *  L3  Data goes out on a stream only after the peer's hello arrived on it, starting at the first message the peer
 *      misses; so a duplicate or a gap is the peer's fault.
 *  L4  Unacknowledged bytes stay below `windowBytes`, except for one message when nothing else is in the window.
 *      Producers wait in `send`; at most `maxWaiting` of them.
 *  L5  A peer that acknowledges what was not sent, breaks the numbering or sends an invalid frame ends the link with
 *      one `onProtocolError`.
 *  L6  While `onMessage` is pending, the stream is not read and the message is not acknowledged: a slow consumer
 *      slows the producer instead of filling memory.
 *  L7  What is accepted from a stream is delivered even if the stream is cut before; `hello` counts it as received.
 *  L8  While the link is held, the guest has read every frame of the worker to its end, and nothing changes on the
 *      worker's side: its snapshot and a guest that is stopped meanwhile fit together.
 *  L9  A link made from a snapshot delivers nothing that stood in the stream before the guest's answer to its own `hello`
 *      (resync.ts). The guest's side takes such a `hello` at any time and starts the stream anew.
 */
import type { Duplex, Readable, Writable } from "node:stream";
import type * as z from "zod";
import { Attachment } from "./attachment.ts";
import { decodeBody, encodeFrame } from "./codec.ts";
import { ProtocolError } from "./frames.ts";
import { issues, LinkClosedError, type LinkFrame, linkFrame } from "./link-frames.ts";
import type { LinkSnapshot } from "./link-snapshot.ts";
import { Outbox, type Sent } from "./outbox.ts";

export { LinkClosedError };

const defaultWindowBytes = 4 * 1024 * 1024;
const quiesceLimitMs = 10_000;
/** Acknowledge after so many messages or bytes, or after the delay: few frames, yet a full window moves on. */
const ackEvery = { messages: 64, bytes: 256 * 1024, delayMs: 5 };

export interface ReliableLinkOptions<In> {
  /** For error texts only. */
  readonly side: "worker" | "guest";
  readonly incomingSchema: z.ZodType<In>;
  /** Called for one message at a time, in order; reading stops while its promise is pending. A throw ends the link. */
  readonly onMessage: (message: In) => void | Promise<void>;
  /** Called at most once; the link is closed then. */
  readonly onProtocolError: (error: ProtocolError) => void;
  /** The stream ended or failed; another one may be attached. */
  readonly onDetach?: () => void;
  /** Bytes of unacknowledged messages; default 4 MiB. */
  readonly windowBytes?: number;
  /** Worker only: go on from this state with a restored guest; parsed by the `linkSnapshot` schema. */
  readonly from?: LinkSnapshot;
}

/** Of a `quiesce` under way or done. */
interface Hold {
  readonly number: number;
  state: "syncing" | "held";
  readonly settle: (error?: Error) => void;
}
export class ReliableLink<Out, In> {
  readonly #options: ReliableLinkOptions<In>;
  readonly #outbox: Outbox;
  #attachment: Attachment | undefined;
  #closed = false;
  #receivedSeq = 0;
  #deliveredSeq = 0;
  #acknowledgedSeq = 0;
  #deliveredBytes = 0;
  #inbox: { seq: number; message: In; bytes: number }[] = [];
  #delivering = false;
  #ackTimer: NodeJS.Timeout | undefined;
  #hold: Hold | undefined;
  #syncNumber = 0;
  #idleDeliveries: (() => void)[] = [];

  constructor(options: ReliableLinkOptions<In>) {
    this.#options = options;
    this.#outbox = new Outbox(options.windowBytes ?? defaultWindowBytes, (sent) => {
      if (this.#attachment?.greeted === true) this.#write(this.#attachment, sent); // L3
    });
    if (options.from !== undefined) this.#goOnFrom(options.from);
  }

  /** Whether a `send` now would be accepted at once. */
  get writable(): boolean {
    return !this.#closed && this.#outbox.writable;
  }

  /** Use this stream from now on; an earlier one is destroyed. One Duplex, or an input and an output. */
  attach(stream: Duplex): void;
  attach(input: Readable, output: Writable): void;
  attach(input: Readable | Duplex, output: Writable = input as Duplex): void {
    if (this.#closed) throw new LinkClosedError();
    if (this.#hold !== undefined) throw new Error("The link is held: call release() or close() first.");
    this.#attachment?.detach();
    const attachment = new Attachment(input, output, { resync: this.#options.from !== undefined });
    this.#attachment = attachment;
    attachment.listen({
      onData: (chunk) => this.#read(attachment, chunk),
      onEnd: () => {
        this.#detach();
        this.#hold?.settle(new Error("The stream was cut."));
        this.#options.onDetach?.();
      },
    });
    const resync = attachment.scanner?.marker;
    output.write(encodeFrame({ frame: "hello", last_received: this.#receivedSeq, resync }));
    // L6, L7: what an earlier stream left in the inbox is delivered first.
    if (this.#delivering) input.pause();
    else input.resume();
  }

  /**
   * Accept a message for delivery; resolves when it is in the window, not when it has arrived.
   *
   * Rejects with LinkClosedError, with RangeError for a message over `limits.frameBytes`, and when more than 1024
   * calls wait already (their callers do not wait for `send`).
   */
  send(message: Out): Promise<void> {
    if (this.#closed) return Promise.reject(new LinkClosedError());
    return this.#outbox.send(message);
  }

  /** Resolves when the peer has acknowledged everything sent so far, or the link is closed. */
  acknowledged(): Promise<void> {
    return this.#closed ? Promise.resolve() : this.#outbox.acknowledged();
  }

  /**
   * Hold the link so that the guest can be saved (worker side; L8): resolves when the guest has read everything that was
   * written and every message that arrived has been handled. From then until `release` or `close` nothing is written, read
   * or delivered; `send` still takes messages into the window. What the guest sends meanwhile stays in its pipe.
   *
   * Order for a checkpoint: `quiesce`, save the guest (it is stopped then), `snapshot`, and `close`; or `release` when the
   * guest is resumed. Handlers must have recorded what they were given when their promise resolves: a message that counts
   * as delivered is not sent again after a restore.
   *
   * Rejects, and the link goes on, when no stream is open, the guest does not answer within `limitMs` (default 10 s), or
   * the stream is cut meanwhile.
   */
  async quiesce(options: { readonly limitMs?: number } = {}): Promise<void> {
    if (this.#closed) throw new LinkClosedError();
    const attachment = this.#attachment;
    if (this.#options.side !== "worker" || this.#hold !== undefined || attachment?.greeted !== true) {
      throw new Error("Only an open link of the worker's side can be held.");
    }
    this.#syncNumber += 1;
    const number = this.#syncNumber;
    let timer: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const settle = (error?: Error) => (error === undefined ? resolve() : reject(error));
        this.#hold = { number, state: "syncing", settle };
        const limitMs = options.limitMs ?? quiesceLimitMs;
        timer = setTimeout(
          () => settle(new Error(`The guest did not answer within ${limitMs} ms.`)),
          limitMs,
        );
        attachment.output.write(encodeFrame({ frame: "sync", number }));
      });
      // The limit of a handler is its own; what it was given must be recorded before the snapshot counts it.
      while (this.#delivering && !this.#closed)
        await new Promise<void>((resolve) => this.#idleDeliveries.push(resolve));
      if (this.#closed) throw new LinkClosedError();
    } catch (error) {
      this.release();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The state a link of a restored guest goes on from. Only while held, and when no `send` waits. */
  snapshot(): LinkSnapshot {
    if (this.#hold?.state !== "held" || this.#delivering || this.#inbox.length > 0) {
      throw new Error("A snapshot needs a held link: await quiesce() first.");
    }
    if (this.#outbox.waiting > 0)
      throw new Error("A snapshot would lose messages that wait: await send() first.");
    return {
      format: 1,
      sent_seq: this.#outbox.sentSeq,
      received_seq: this.#deliveredSeq,
      unacknowledged: this.#outbox.unacknowledged.map(({ bytes }) => bytes.toString("base64")),
    };
  }

  /** Go on after `quiesce`. Nothing to do when the link is not held. */
  release(): void {
    if (this.#hold === undefined) return;
    this.#hold = undefined;
    const attachment = this.#attachment;
    if (attachment === undefined || this.#closed) return;
    for (const sent of this.#outbox.unacknowledged) this.#write(attachment, sent);
    if (this.#deliveredSeq > this.#acknowledgedSeq) this.#sendAck();
    if (this.#inbox.length > 0) void this.#deliver();
    if (!this.#delivering) attachment.input.resume();
  }

  /** Close for good; waits up to `flushMs` (default 0: not at all) for the acknowledgement of what was sent. */
  async close(options: { flushMs?: number } = {}): Promise<void> {
    const flushMs = options.flushMs ?? 0;
    if (flushMs > 0 && !this.#closed) {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, flushMs);
      });
      await Promise.race([this.acknowledged(), limit]);
      clearTimeout(timer);
    }
    this.#shut();
  }

  #detach(): void {
    const attachment = this.#attachment;
    this.#attachment = undefined;
    attachment?.detach();
  }

  /** Once per message and stream; later while held (L8). */
  #write(attachment: Attachment, sent: Sent): void {
    if (this.#hold !== undefined || sent.seq <= attachment.writtenSeq) return;
    attachment.writtenSeq = sent.seq;
    attachment.output.write(sent.bytes);
  }

  #goOnFrom(snapshot: LinkSnapshot): void {
    if (this.#options.side !== "worker") throw new Error("Only the worker's side goes on from a snapshot.");
    this.#outbox.goOnFrom(snapshot);
    this.#receivedSeq = snapshot.received_seq;
    this.#deliveredSeq = snapshot.received_seq;
    this.#acknowledgedSeq = snapshot.received_seq;
  }

  #read(attachment: Attachment, chunk: Buffer): void {
    try {
      const framed = attachment.scanner === undefined ? chunk : attachment.scanner.push(chunk);
      if (framed === undefined) return;
      attachment.scanner = undefined;
      for (const body of attachment.decoder.push(framed)) {
        this.#handle(attachment, decodeBody(body), body.length);
        if (this.#closed) return;
      }
    } catch (error) {
      this.#fail(
        error instanceof ProtocolError ? error : new ProtocolError("Invalid frame.", { cause: error }),
      );
      return;
    }
    if (this.#inbox.length > 0) void this.#deliver();
    if (this.#delivering || this.#hold?.state === "held") attachment.input.pause(); // L6, L8
  }

  #handle(attachment: Attachment, value: unknown, bytes: number): void {
    const parsed = linkFrame.safeParse(value);
    if (!parsed.success)
      throw new ProtocolError(`Invalid frame from the ${this.#peer}: ${issues(parsed.error)}`);
    const frame = parsed.data;
    if (frame.frame === "hello") {
      this.#greet(attachment, frame);
      return;
    }
    if (!attachment.greeted) throw new ProtocolError(`The ${this.#peer} did not say hello first.`);
    if (frame.frame === "sync" || frame.frame === "synced") {
      this.#handleSync(attachment, frame);
      return;
    }
    if (frame.frame === "ack") {
      this.#forget(frame.seq);
      this.#outbox.admit();
      return;
    }
    if (frame.seq !== this.#receivedSeq + 1) {
      throw new ProtocolError(
        `Message ${frame.seq} of the ${this.#peer} where ${this.#receivedSeq + 1} was due.`,
      ); // L1
    }
    const message = this.#options.incomingSchema.safeParse(frame.message);
    if (!message.success)
      throw new ProtocolError(`Invalid message of the ${this.#peer}: ${issues(message.error)}`);
    this.#receivedSeq = frame.seq;
    this.#inbox.push({ seq: frame.seq, message: message.data, bytes });
  }

  #greet(attachment: Attachment, hello: Extract<LinkFrame, { frame: "hello" }>): void {
    if (hello.resync !== undefined) this.#startAnew(attachment, hello.resync);
    if (attachment.greeted) throw new ProtocolError(`The ${this.#peer} said hello twice.`);
    const oldest = this.#outbox.acknowledgedSeq;
    if (hello.last_received < oldest) {
      throw new ProtocolError(`The ${this.#peer} has ${hello.last_received} but acknowledged ${oldest}.`); // L5
    }
    this.#forget(hello.last_received);
    attachment.greeted = true;
    attachment.writtenSeq = hello.last_received;
    for (const sent of this.#outbox.unacknowledged) this.#write(attachment, sent);
    this.#outbox.admit();
  }

  /** The guest's side of L9: what is in the stream or on its way into it ends at the marker. */
  #startAnew(attachment: Attachment, marker: string): void {
    if (this.#options.side !== "guest")
      throw new ProtocolError("The guest asks for a new start of the stream.");
    attachment.output.write(Buffer.from(marker, "hex"));
    attachment.output.write(encodeFrame({ frame: "hello", last_received: this.#receivedSeq }));
    attachment.greeted = false;
  }

  #handleSync(attachment: Attachment, { frame, number }: { frame: "sync" | "synced"; number: number }): void {
    if (frame === "sync" && this.#options.side === "guest") {
      attachment.output.write(encodeFrame({ frame: "synced", number }));
      return;
    }
    // An answer that comes after its limit is no offence.
    if (frame === "sync" || number > this.#syncNumber)
      throw new ProtocolError(`A ${frame} that was not asked for.`);
    if (this.#hold?.number !== number || this.#hold.state === "held") return;
    this.#hold.state = "held";
    this.#hold.settle();
  }

  /** Drop what the peer has (L2). */
  #forget(upTo: number): void {
    const sent = this.#outbox.sentSeq;
    if (upTo > sent) throw new ProtocolError(`The ${this.#peer} acknowledges ${upTo} of ${sent} messages.`); // L5
    this.#outbox.forget(upTo);
  }

  async #deliver(): Promise<void> {
    if (this.#delivering) return;
    this.#delivering = true;
    for (let next = this.#inbox.shift(); next !== undefined && !this.#closed; next = this.#inbox.shift()) {
      try {
        const pending = this.#options.onMessage(next.message);
        if (pending !== undefined) await pending;
      } catch (error) {
        this.#fail(
          new ProtocolError(`A message of the ${this.#peer} could not be handled.`, { cause: error }),
        );
        return;
      }
      if (this.#closed) return;
      this.#deliveredSeq = next.seq;
      this.#deliveredBytes += next.bytes;
      this.#acknowledge();
    }
    this.#delivering = false;
    for (const resolve of this.#idleDeliveries.splice(0)) resolve();
    if (!this.#closed && this.#hold?.state !== "held") this.#attachment?.input.resume();
  }

  #acknowledge(): void {
    const due =
      this.#deliveredSeq - this.#acknowledgedSeq >= ackEvery.messages ||
      this.#deliveredBytes >= ackEvery.bytes;
    if (due) this.#sendAck();
    else this.#ackTimer ??= setTimeout(() => this.#sendAck(), ackEvery.delayMs);
  }

  #sendAck(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    if (this.#hold !== undefined) return; // L8; `release` catches up.
    this.#deliveredBytes = 0;
    this.#acknowledgedSeq = this.#deliveredSeq;
    this.#attachment?.output.write(encodeFrame({ frame: "ack", seq: this.#deliveredSeq }));
  }

  #fail(error: ProtocolError): void {
    if (this.#closed) return;
    this.#shut();
    this.#options.onProtocolError(error);
  }

  #shut(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#ackTimer);
    this.#detach();
    this.#hold?.settle(new LinkClosedError());
    for (const resolve of this.#idleDeliveries.splice(0)) resolve();
    this.#inbox = [];
    this.#outbox.close();
  }

  get #peer(): string {
    return this.#options.side === "worker" ? "guest" : "worker";
  }
}
