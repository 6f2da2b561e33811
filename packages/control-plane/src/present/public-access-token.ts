/** Public access tokens on the wire (contract 5.2): the session is always named by its id. */
import type { PublicAccessToken } from "@helmr/api";
import type { PublicAccessTokenRow } from "@helmr/store";

export function presentPublicAccessToken(
  row: PublicAccessTokenRow & { readonly rawToken: string },
): PublicAccessToken {
  return {
    id: row.id,
    public_access_token: row.rawToken,
    scope: {
      type: row.scope_type,
      session: { type: "id", id: row.session_id },
      stream: row.stream,
      ...(row.correlation_id === null ? {} : { correlation_id: row.correlation_id }),
    },
    expires_at: row.expires_at.toISOString(),
    ...(row.max_uses === null ? {} : { max_uses: row.max_uses }),
    created_at: row.created_at.toISOString(),
  };
}
