/**
 * Sign-in links sent by e-mail; only the sha256 of a link's token is stored.
 *
 *   open -> consumed   by the first who presents the token; one of many at the same time (ML1)
 *   open -> expired    after 15 minutes (no write); swept later (sweep-identity.ts)
 *
 * ML1 A link signs in once: the update of its one row decides.
 */
import { createHash, randomBytes } from "node:crypto";
import { sql } from "kysely";
import type { Queryable, Tx } from "./database.ts";

/** Contract 11.1. */
export const magicLinkMinutes = 15;

/** What a link's token looks like. */
export const magicLinkTokenPattern = /^[A-Za-z0-9_-]{43}$/;

export interface NewMagicLink {
  /** As `normalizeEmail` gives it. */
  readonly email: string;
  /** A path of this server. */
  readonly redirectAfter: string;
}

/** The token, shown this once. */
export async function createMagicLink(db: Queryable, link: NewMagicLink): Promise<string> {
  const token = randomBytes(32).toString("base64url");
  await sql`
    insert into magic_links (token_hash, email, redirect_after, expires_at)
    values (${hashToken(token)}, ${link.email}, ${link.redirectAfter}, now() + make_interval(mins => ${magicLinkMinutes}))`.execute(
    db,
  );
  return token;
}

/** ML1. Undefined for a token that is unknown, used or expired. In the transaction that signs in. */
export async function consumeMagicLink(tx: Tx, token: string): Promise<NewMagicLink | undefined> {
  if (!magicLinkTokenPattern.test(token)) return undefined;
  const { rows } = await sql<{ email: string; redirect_after: string }>`
    update magic_links set consumed_at = now()
    where token_hash = ${hashToken(token)} and consumed_at is null and expires_at > now()
    returning email, redirect_after`.execute(tx);
  const row = rows[0];
  return row && { email: row.email, redirectAfter: row.redirect_after };
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
