/** The content-addressed store: what is in it is named by the sha256 of its bytes and never changes. */
import type { Readable } from "node:stream";

export interface StoredArtifact {
  /** `sha256:<64 hex>` */
  readonly digest: string;
  readonly sizeBytes: number;
}

/** Adapters: a folder (`file://`), S3 later. */
export interface ArtifactStore {
  /** Store the stream's bytes; rejects with ArtifactTooLargeError beyond `maxBytes`, ArtifactDigestError if `expectedDigest` differs. */
  put(
    source: Readable,
    options: { readonly maxBytes: number; readonly expectedDigest?: string },
  ): Promise<StoredArtifact>;
  /** The bytes, verified while they are read: a mismatch errors the stream. Rejects with ArtifactNotFoundError. */
  get(digest: string): Promise<Readable>;
  has(digest: string): Promise<boolean>;
  delete(digest: string): Promise<void>;
}
