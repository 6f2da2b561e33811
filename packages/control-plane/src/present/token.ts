/** Tokens on the wire (contract 2.4): the two secrets are given by create only. */
import { type TokenRow, tokenStatus } from "@helmr/store";
import type { TokenSecrets } from "../tokens.ts";

export interface WireToken {
  readonly id: string;
  readonly status: "pending" | "completed" | "expired" | "cancelled";
  readonly timeout_at: string | null;
  readonly data?: unknown;
  readonly tags?: string[];
  readonly metadata?: Record<string, unknown>;
}

export function presentToken(token: TokenRow): WireToken {
  return {
    id: token.id,
    status: tokenStatus(token),
    timeout_at: token.timeout_at.toISOString(),
    ...(token.data === null ? {} : { data: JSON.parse(token.data) as unknown }),
    ...(token.tags.length === 0 ? {} : { tags: token.tags }),
    metadata: token.metadata,
  };
}

export function presentCreatedToken(
  token: TokenRow,
  secrets: TokenSecrets,
): WireToken & { readonly callback_url: string; readonly public_access_token: string } {
  return {
    ...presentToken(token),
    callback_url: secrets.callbackUrl(token.id),
    public_access_token: secrets.publicAccessToken(token.id),
  };
}
