/** The name of an artifact, and the proof that bytes are its own. */
import { createHash } from "node:crypto";
import { Transform } from "node:stream";
import { ArtifactDigestError, ArtifactDigestFormatError } from "./errors.ts";

const digestPattern = /^sha256:([0-9a-f]{64})$/;

/** The digits alone. @throws ArtifactDigestFormatError for anything else than `sha256:<64 lower-case hex>`. */
export function digestHex(digest: string): string {
  const hex = digestPattern.exec(digest)?.[1];
  if (hex === undefined) throw new ArtifactDigestFormatError(digest);
  return hex;
}

/** Where an artifact lies below the root of a store: the same in a folder and in a bucket. */
export function artifactPath(hex: string): string {
  return `sha256/${hex.slice(0, 2)}/${hex}`;
}

/** Passes bytes on and errors at their end if they are not the digest's. */
export function verifying(digest: string): Transform {
  const hash = createHash("sha256");
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      done(null, chunk);
    },
    flush(done) {
      const actual = `sha256:${hash.digest("hex")}`;
      done(actual === digest ? null : new ArtifactDigestError(digest, actual));
    },
  });
}
