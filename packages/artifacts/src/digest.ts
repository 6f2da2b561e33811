/** The name of an artifact, and where it lies. */
import { ArtifactDigestFormatError } from "./errors.ts";

const digestPattern = /^sha256:([0-9a-f]{64})$/;

/** The digits alone. @throws ArtifactDigestFormatError for anything else than `sha256:<64 lower-case hex>`. */
export function digestHex(digest: string): string {
  const hex = digestPattern.exec(digest)?.[1];
  if (hex === undefined) throw new ArtifactDigestFormatError(digest);
  return hex;
}

export function isDigestHex(text: string): boolean {
  return digestPattern.test(`sha256:${text}`);
}

/** Where an artifact lies below the root of a store: the same in a folder and in a bucket. */
export function artifactPath(hex: string): string {
  return `sha256/${hex.slice(0, 2)}/${hex}`;
}
