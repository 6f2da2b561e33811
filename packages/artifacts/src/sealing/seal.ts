/** Sealing an artifact while its bytes come, before its digest is known. */
import { seal } from "../archive/chunks.ts";
import { PendingBytes } from "../archive/pending-bytes.ts";
import { type ArtifactKeys, makeHeader, type SealedHeader } from "./header.ts";

/** Starting a cipher takes some µs: larger chunks cost memory, smaller ones time. */
const defaultChunkBytes = 256 * 1024;

export class Sealer {
  readonly #header: SealedHeader;
  readonly #pending = new PendingBytes();
  #number = 0;

  constructor(keys: ArtifactKeys, chunkBytes: number = defaultChunkBytes) {
    this.#header = makeHeader(keys, chunkBytes);
  }

  /** The chunks that these bytes complete. One that is full is held back until more follows: it may be the last. */
  *update(plain: Buffer): Generator<Buffer> {
    this.#pending.push(plain);
    while (this.#pending.length > this.#header.chunkBytes) yield this.#seal(false, this.#header.chunkBytes);
  }

  /** The last chunk, which may be empty. */
  last(): Buffer {
    return this.#seal(true, this.#pending.length);
  }

  /** What comes before the chunks. */
  header(digest: string): Buffer {
    return this.#header.bytesFor(digest);
  }

  #seal(last: boolean, bytes: number): Buffer {
    const sealed = seal(this.#header.chunkKey, this.#number, last, this.#pending.take(bytes));
    this.#number += 1;
    return sealed;
  }
}
