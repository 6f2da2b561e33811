/** Why an artifact could not be stored or read. Control plane and worker map these to their own answers. */

/** The store holds nothing under this digest. */
export class ArtifactNotFoundError extends Error {
  override readonly name = "ArtifactNotFoundError";
  readonly digest: string;
  constructor(digest: string) {
    super(`artifact ${digest} is not in the store`);
    this.digest = digest;
  }
}

/** The stream went on beyond `maxBytes`; nothing was stored. */
export class ArtifactTooLargeError extends Error {
  override readonly name = "ArtifactTooLargeError";
  readonly maxBytes: number;
  constructor(maxBytes: number) {
    super(`artifact is larger than ${maxBytes} bytes`);
    this.maxBytes = maxBytes;
  }
}

/** The bytes are not the ones their digest names; nothing was stored, or what was stored is damaged. */
export class ArtifactDigestError extends Error {
  override readonly name = "ArtifactDigestError";
  readonly expected: string;
  readonly actual: string;
  constructor(expected: string, actual: string) {
    super(`artifact has digest ${actual}, expected ${expected}`);
    this.expected = expected;
    this.actual = actual;
  }
}

/** A digest that is not `sha256:<64 lower-case hex>`: never used as a path. */
export class ArtifactDigestFormatError extends Error {
  override readonly name = "ArtifactDigestFormatError";
  constructor(digest: string) {
    super(
      `artifact digest must be sha256:<64 lower-case hex digits>, got ${JSON.stringify(digest.slice(0, 100))}`,
    );
  }
}

/**
 * The store itself does not do what it was asked: unreachable, refused, no bucket, no space. The message says what to look
 * into; it has no credentials in it. `code` is the store's own word, as `NoSuchBucket`.
 */
export class ArtifactStoreError extends Error {
  override readonly name = "ArtifactStoreError";
  readonly code: string;
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * A stored artifact does not open. `unknown_key`: sealed under a key that this process does not have; `other_artifact`: the
 * object is another artifact's, or its header was changed; `damaged`, `truncated`: not the bytes that were sealed.
 */
export type SealedArtifactReason = "unknown_key" | "other_artifact" | "damaged" | "truncated";

export class SealedArtifactError extends Error {
  override readonly name = "SealedArtifactError";
  readonly digest: string;
  readonly reason: SealedArtifactReason;
  constructor(digest: string, reason: SealedArtifactReason, what: string) {
    super(`artifact ${digest} ${what}`);
    this.digest = digest;
    this.reason = reason;
  }
}

/** An uploaded source tree that must not be unpacked. The message names the entry and says what is wrong with it. */
export class DeploymentSourceError extends Error {
  override readonly name = "DeploymentSourceError";
}
