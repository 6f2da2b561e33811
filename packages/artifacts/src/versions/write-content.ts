/** Content that comes as a stream, into pieces. */
import type { ContentStore } from "./content-store.ts";
import { WorkspaceVersionError } from "./errors.ts";
import { chunkBytes, packMaxBytes, type VersionLimits } from "./format.ts";
import type { ManifestBuilder } from "./manifest-builder.ts";

const zeros = Buffer.alloc(chunkBytes);

export class ContentWriter {
  readonly #contents: ContentStore;
  readonly #builder: ManifestBuilder;
  readonly #limits: VersionLimits;
  readonly #buffer = Buffer.allocUnsafeSlow(chunkBytes);
  /** Of all that was written. */
  bytes = 0;

  constructor(contents: ContentStore, builder: ManifestBuilder, limits: VersionLimits) {
    this.#contents = contents;
    this.#builder = builder;
    this.#limits = limits;
  }

  /** The size and the content, as ManifestBuilder.add takes it. Rejects with `too_large`. */
  async write(
    source: AsyncIterable<Uint8Array>,
  ): Promise<{ readonly size: number; readonly content: number }> {
    const chunkIndex: number[] = [];
    const chunkPiece: number[] = [];
    let size = 0;
    let fill = 0;
    const endChunk = async (last: boolean) => {
      const bytes = this.#buffer.subarray(0, fill);
      const isWhole = last && size <= chunkBytes;
      if (fill > 0 && (isWhole || !bytes.equals(zeros.subarray(0, fill)))) {
        chunkIndex.push(Math.floor((size - 1) / chunkBytes));
        // Only from here on is it known to be huge; its first chunks lie among those of small files.
        chunkPiece.push(this.#contents.add(bytes, size > packMaxBytes));
        if (this.#contents.full) await this.#contents.drained();
      }
      fill = 0;
    };
    for await (const part of source) {
      for (let at = 0; at < part.length; ) {
        if (fill === chunkBytes) await endChunk(false);
        const length = Math.min(chunkBytes - fill, part.length - at);
        this.#buffer.set(part.subarray(at, at + length), fill);
        fill += length;
        at += length;
        size += length;
        this.#count(size, length);
      }
    }
    await endChunk(true);
    if (size > packMaxBytes) this.#contents.endHugeFile();
    if (size === 0) return { size, content: -1 };
    if (size <= chunkBytes) return { size, content: chunkPiece[0] as number };
    const content = this.#builder.addLarge(size, Uint32Array.from(chunkIndex), Uint32Array.from(chunkPiece));
    return { size, content };
  }

  #count(size: number, length: number): void {
    this.bytes += length;
    if (size > this.#limits.maxFileBytes)
      throw new WorkspaceVersionError("too_large", `a file has more than ${this.#limits.maxFileBytes} bytes`);
    if (this.bytes > this.#limits.maxBytes)
      throw new WorkspaceVersionError(
        "too_large",
        `there are more than ${this.#limits.maxBytes} bytes of files`,
      );
  }
}
