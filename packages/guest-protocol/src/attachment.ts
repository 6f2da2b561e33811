/** One stream a link is attached to; everything that must end with it lives here. */
import type { Readable, Writable } from "node:stream";
import { FrameDecoder } from "./frames.ts";
import { ResyncScanner } from "./resync.ts";

export interface AttachmentEvents {
  onData(chunk: Buffer): void;
  /** The stream ended or failed; at most once, and not after `detach`. */
  onEnd(): void;
}

export class Attachment {
  readonly input: Readable;
  readonly output: Writable;
  readonly decoder = new FrameDecoder();
  /** The peer's hello arrived. */
  greeted = false;
  /** Until the guest's answer is found (L9). */
  scanner: ResyncScanner | undefined;
  /** Number of the last message written to this stream; behind the last one accepted while the link is held. */
  writtenSeq = 0;
  #listeners: readonly [Readable | Writable, string, (chunk: Buffer) => void][] = [];

  constructor(input: Readable, output: Writable, options: { readonly resync: boolean }) {
    this.input = input;
    this.output = output;
    this.scanner = options.resync ? new ResyncScanner() : undefined;
  }

  listen(events: AttachmentEvents): void {
    const onData = (chunk: Buffer): void => events.onData(chunk);
    const onEnd = (): void => {
      if (this.#listeners.length > 0) events.onEnd();
    };
    this.#listeners = [
      [this.input, "data", onData],
      [this.input, "end", onEnd],
      [this.input, "close", onEnd],
      [this.input, "error", onEnd],
      [this.output, "close", onEnd],
      [this.output, "error", onEnd],
    ];
    for (const [stream, event, listener] of this.#listeners) stream.on(event, listener);
  }

  /** Let go of the stream and destroy it. */
  detach(): void {
    for (const [stream, event, listener] of this.#listeners) stream.off(event, listener);
    this.#listeners = [];
    // A late error of a stream nobody uses any more must not end the process.
    this.input.on("error", ignoreLateError);
    this.output.on("error", ignoreLateError);
    this.input.destroy();
    this.output.destroy();
  }
}

function ignoreLateError(): void {
  // Deliberately empty: see `detach`.
}
