/**
 * The secrets of a token are derived, not stored (contract 5.1): HMAC-SHA256 of the token's id and the purpose under a key
 * of the installation, so that the same token has the same secrets again, and the database gives nobody a way in.
 */
import { createHmac, timingSafeEqual } from "node:crypto";

export interface TokenSecrets {
  /** `<public url>/api/v1/tokens/<id>/callback/hlmr_callback_<43 characters>` */
  callbackUrl(tokenId: string): string;
  /** `hlmr_public_access_<43 characters>`, good for one completion of this token. */
  publicAccessToken(tokenId: string): string;
  isCallbackSecret(tokenId: string, secret: string): boolean;
  isPublicAccessToken(tokenId: string, bearer: string): boolean;
}

/** `authSecret`: 32 bytes or more; `publicUrl` without trailing slash. */
export function createTokenSecrets(authSecret: Buffer, publicUrl: string): TokenSecrets {
  const derive = (kind: string, tokenId: string) =>
    createHmac("sha256", authSecret).update(`helmr:${kind}:default:${tokenId}`).digest("base64url");
  const callback = (tokenId: string) => `hlmr_callback_${derive("callback", tokenId)}`;
  const publicAccess = (tokenId: string) => `hlmr_public_access_${derive("public-access", tokenId)}`;
  return {
    callbackUrl: (tokenId) => `${publicUrl}/api/v1/tokens/${tokenId}/callback/${callback(tokenId)}`,
    publicAccessToken: publicAccess,
    isCallbackSecret: (tokenId, secret) => isSame(callback(tokenId), secret),
    isPublicAccessToken: (tokenId, bearer) => isSame(publicAccess(tokenId), bearer),
  };
}

function isSame(expected: string, given: string): boolean {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}
