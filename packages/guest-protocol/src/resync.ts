/**
 * Finding the first frame of a stream that begins in the middle of one.
 *
 * A restored guest does not know that its stream was cut: it goes on with the rest of what it was writing. The worker's
 * `hello` carries a random marker; the guest repeats it in plain before its own `hello`, and the worker drops everything up
 * to it. The marker is made after the checkpoint, so nothing the guest wrote before can hold it.
 */
import { randomBytes } from "node:crypto";
import { ProtocolError } from "./frames.ts";

const markerBytes = 32;
/** More than a guest can have begun to write: its window and one frame. */
const maxSkippedBytes = 64 * 1024 * 1024;

export class ResyncScanner {
  /** Hex, for `hello`. */
  readonly marker: string;
  readonly #bytes: Buffer;
  #tail: Buffer = Buffer.alloc(0);
  #skipped = 0;

  constructor() {
    this.#bytes = randomBytes(markerBytes);
    this.marker = this.#bytes.toString("hex");
  }

  /** What follows the marker, once it was seen; the scanner is of no use then. Memory stays below a chunk and a marker. */
  push(chunk: Buffer): Buffer | undefined {
    const searched = this.#tail.length === 0 ? chunk : Buffer.concat([this.#tail, chunk]);
    const at = searched.indexOf(this.#bytes);
    if (at >= 0) return searched.subarray(at + markerBytes);
    this.#skipped += chunk.length;
    if (this.#skipped > maxSkippedBytes)
      throw new ProtocolError("The guest does not answer the hello of a restore.");
    this.#tail = Buffer.from(searched.subarray(Math.max(0, searched.length - markerBytes + 1)));
    return undefined;
  }
}
