/** Reading an artifact whatever lies in the store under its name: sealed, or of a version of Helmr that did not seal. */
import { createHash } from "node:crypto";
import { Transform } from "node:stream";
import { open, tagBytes } from "../archive/chunks.ts";
import { ArchiveError } from "../archive/errors.ts";
import { PendingBytes } from "../archive/pending-bytes.ts";
import { ArtifactDigestError, SealedArtifactError } from "../errors.ts";
import { type ArtifactKeys, headerBytes, isSealed, mend, readHeader, type SealedHeader } from "./header.ts";

/**
 * From stored bytes to the artifact's. Nothing is passed on that was not authenticated, where it is sealed; and at the end
 * all of it has the digest, sealed or not. Errors with a SealedArtifactError or an ArtifactDigestError.
 */
export function opening(digest: string, keys: ArtifactKeys | undefined): Transform {
  const hash = createHash("sha256");
  const opener = new Opener(digest, keys);
  const take = (stream: Transform, plain: Iterable<Buffer>) => {
    for (const bytes of plain) {
      hash.update(bytes);
      stream.push(bytes);
    }
  };
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        take(this, opener.update(chunk));
        done();
      } catch (error) {
        done(error as Error);
      }
    },
    flush(done) {
      try {
        take(this, opener.last());
        const actual = `sha256:${hash.digest("hex")}`;
        done(actual === digest ? null : new ArtifactDigestError(digest, actual));
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

class Opener {
  readonly #digest: string;
  readonly #keys: ArtifactKeys | undefined;
  readonly #pending = new PendingBytes();
  /** Undefined until enough is there to say. */
  #kind: "plain" | SealedHeader | undefined;
  #number = 0;

  constructor(digest: string, keys: ArtifactKeys | undefined) {
    this.#digest = digest;
    this.#keys = keys;
  }

  *update(stored: Buffer): Generator<Buffer> {
    if (stored.length > 0) this.#pending.push(stored);
    if (this.#kind === undefined && this.#pending.length >= headerBytes) yield* this.#begin();
    if (this.#kind === undefined) return;
    if (this.#kind === "plain") {
      if (this.#pending.length > 0) yield this.#pending.take(this.#pending.length);
      return;
    }
    const sealedBytes = this.#kind.chunkBytes + tagBytes;
    while (this.#pending.length > sealedBytes) yield this.#open(this.#kind, false, sealedBytes);
  }

  *last(): Generator<Buffer> {
    if (this.#kind === undefined) {
      const all = this.#pending.take(this.#pending.length);
      if (isSealed(all)) throw this.#damage("truncated", "ends in its header");
      yield all;
      return;
    }
    if (this.#kind === "plain") return;
    if (this.#pending.length < tagBytes) throw this.#damage("truncated", `ends before chunk ${this.#number}`);
    yield this.#open(this.#kind, true, this.#pending.length);
  }

  *#begin(): Generator<Buffer> {
    const beginning = this.#pending.take(headerBytes);
    this.#kind = isSealed(beginning) ? readHeader(beginning, this.#digest, this.#keys) : "plain";
    if (this.#kind === "plain") yield beginning;
  }

  #open({ chunkKey }: SealedHeader, last: boolean, bytes: number): Buffer {
    const sealed = this.#pending.take(bytes);
    const plain = opened(chunkKey, this.#number, last, sealed);
    if (plain === undefined) {
      // One of the middle at the end: what followed it is gone.
      if (last && opened(chunkKey, this.#number, false, sealed) !== undefined)
        throw this.#damage("truncated", `ends after chunk ${this.#number}; more was sealed`);
      throw this.#damage(
        "damaged",
        `is not what was sealed, in chunk ${this.#number}: changed, moved or cut`,
      );
    }
    this.#number += 1;
    return plain;
  }

  #damage(reason: "truncated" | "damaged", what: string): SealedArtifactError {
    return new SealedArtifactError(this.#digest, reason, `${what}. ${mend}`);
  }
}

function opened(...chunk: Parameters<typeof open>): Buffer | undefined {
  try {
    return open(...chunk);
  } catch (error) {
    if (error instanceof ArchiveError) return undefined;
    throw error;
  }
}
