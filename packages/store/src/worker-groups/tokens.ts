/** Bootstrap tokens of worker groups: what a worker registers with. */
import { randomBytes } from "node:crypto";
import { ApiError } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "../audit.ts";
import { type Queryable, transaction } from "../database.ts";
import { uuidv7 } from "../ids.ts";
import { hashSecret } from "../workers/lifecycle.ts";
import { isNamed, type Operator } from "./groups.ts";

export interface BootstrapTokenRow {
  readonly id: string;
  readonly name: string;
  readonly token_prefix: string | null;
  readonly is_expired: boolean;
  readonly created_at: Date;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
}

const columns = sql<BootstrapTokenRow>`t.id, t.name, t.token_prefix, coalesce(t.expires_at <= now(), false) as is_expired,
  t.created_at, t.expires_at, t.revoked_at, t.last_used_at`;

/** Newest ones, good or not. */
const maxListed = 500;
const prefixLength = 16;

/** Make the worker group and its bootstrap token, if they are not there. `token`: at least 32 random bytes of text. */
export async function ensureBootstrapToken(db: Queryable, token: string, group = "default"): Promise<void> {
  await transaction(db, async (tx) => {
    await sql`insert into worker_groups (id, name) values (${uuidv7()}, ${group}) on conflict (name) do nothing`.execute(
      tx,
    );
    await sql`insert into worker_bootstrap_tokens (id, worker_group_id, token_hash)
      select ${uuidv7()}::uuid, id, ${hashSecret(token)} from worker_groups where name = ${group}
      on conflict (token_hash) do nothing`.execute(tx);
  });
}

/** Undefined when there is no such group; throws ApiError 400 for a time that is over. The secret is told this once. */
export async function createBootstrapToken(
  db: Queryable,
  { actor, organizationId }: Operator,
  group: string,
  { name, expiresAt }: { readonly name: string; readonly expiresAt?: Date | undefined },
): Promise<{ readonly token: BootstrapTokenRow; readonly secret: string } | undefined> {
  if (expiresAt !== undefined && expiresAt.getTime() <= Date.now())
    throw new ApiError(400, "expires_at: must be in the future");
  const secret = `hlmr_bt_${randomBytes(32).toString("base64url")}`;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<BootstrapTokenRow>`
      insert into worker_bootstrap_tokens as t (id, worker_group_id, token_hash, name, token_prefix, expires_at)
      select ${uuidv7()}::uuid, g.id, ${hashSecret(secret)}, ${name}, ${secret.slice(0, prefixLength)},
        ${expiresAt ?? null}::timestamptz
      from worker_groups g where ${isNamed(group)} order by g.id limit 1 returning ${columns}`.execute(tx);
    const token = rows[0];
    if (token === undefined) return undefined;
    await recordAudit(tx, actor, {
      action: "worker_bootstrap_token.create",
      ...(organizationId && { organizationId }),
      resourceId: token.id,
      attributes: { name, worker_group: group },
    });
    return { token, secret };
  });
}

/** Newest first; undefined when there is no such group. */
export async function listBootstrapTokens(
  db: Queryable,
  group: string,
): Promise<BootstrapTokenRow[] | undefined> {
  const { rows: groups } = await sql<{
    id: string;
  }>`select g.id from worker_groups g where ${isNamed(group)}`.execute(db);
  if (groups[0] === undefined) return undefined;
  const { rows } = await sql<BootstrapTokenRow>`
    select ${columns} from worker_bootstrap_tokens t where t.worker_group_id = ${groups[0].id}
    order by t.created_at desc, t.id desc limit ${sql.lit(maxListed)}`.execute(db);
  return rows;
}

/** Undefined when the group has no such token. Revoking again changes nothing. */
export async function revokeBootstrapToken(
  db: Queryable,
  { actor, organizationId }: Operator,
  group: string,
  tokenId: string,
): Promise<BootstrapTokenRow | undefined> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<BootstrapTokenRow & { was_revoked: boolean }>`
      with before as (
        select t.id, t.revoked_at from worker_bootstrap_tokens t join worker_groups g on g.id = t.worker_group_id
        where ${isNamed(group)} and t.id = ${tokenId} for update of t
      )
      update worker_bootstrap_tokens t set revoked_at = coalesce(t.revoked_at, now()) from before b where t.id = b.id
      returning ${columns}, b.revoked_at is not null as was_revoked`.execute(tx);
    const token = rows[0];
    if (token === undefined || token.was_revoked) return token;
    await recordAudit(tx, actor, {
      action: "worker_bootstrap_token.revoke",
      ...(organizationId && { organizationId }),
      resourceId: token.id,
      attributes: { name: token.name, worker_group: group },
    });
    return token;
  });
}
