/** The content-addressed store: what is in it is named by the sha256 of its bytes and never changes. */
import type { Readable } from "node:stream";

export interface StoredArtifact {
  /** `sha256:<64 hex>` */
  readonly digest: string;
  readonly sizeBytes: number;
}

export interface PutOptions {
  readonly maxBytes: number;
  readonly expectedDigest?: string;
  /** The bytes are sealed already, as a checkpoint's are under a key that only workers have: they are stored as they are. */
  readonly sealed?: boolean;
  /** Called when all bytes are there and the digest is known, before anybody can find them; a rejection stores nothing. */
  readonly beforePublish?: (artifact: StoredArtifact) => Promise<void>;
  /** Called when bytes have gone to the store after the source has ended, for whoever limits how long it may stand still. */
  readonly onProgress?: () => void;
}

/** Adapters: a folder (`file://`), S3 and what speaks like it (`s3://`). */
export interface ArtifactStore {
  /** Store the stream's bytes; rejects with ArtifactTooLargeError beyond `maxBytes`, ArtifactDigestError if `expectedDigest` differs. */
  put(source: Readable, options: PutOptions): Promise<StoredArtifact>;
  /** The bytes, verified while they are read: a mismatch errors the stream. Rejects with ArtifactNotFoundError. */
  get(digest: string): Promise<Readable>;
  has(digest: string): Promise<boolean>;
  delete(digest: string): Promise<void>;
}
