/**
 * Public access tokens: `hlmr_pat_` + base64url of 32 random bytes, for one stream of one session. Only the sha256 is
 * stored.
 *
 *   usable    -> used up   by the last of its max_uses
 *   usable    -> expired   when expires_at has passed (no write); swept a while later
 *   any       -> gone      with its session or its environment; one of an environment that is being deleted is refused
 *
 *   U1 A use is one conditional update in the transaction of what it allows: both are there, or neither, and of uses at the
 *      same time no more count than are left.
 *   U2 The lock on the token comes after the one on its session, as when a session is deleted.
 */
import { createHash, randomBytes } from "node:crypto";
import { codedError } from "@helmr/api";
import { sql } from "kysely";
import { recordScopeAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import type { PublicAccessScope } from "./schema-waits.ts";
import type { ActingScope, Scope } from "./scope.ts";
import { getSession, type SessionKey } from "./sessions/read-sessions.ts";
import {
  type AppendedRecord,
  appendInput,
  type NewRecord,
  type RecordRow,
  readSessionStream,
} from "./streams/index.ts";

export const publicAccessTokenPattern = /^hlmr_pat_[A-Za-z0-9_-]{43}$/;

export interface NewPublicAccessToken {
  readonly scopeType: PublicAccessScope;
  readonly session: SessionKey;
  readonly stream: string;
  /** Undefined: of every correlation id, and of none. */
  readonly correlationId?: string | undefined;
  readonly expiresAt: Date;
  /** Undefined: as many as are wanted. */
  readonly maxUses?: number | undefined;
}

export interface PublicAccessTokenRow {
  readonly id: string;
  readonly scope_type: PublicAccessScope;
  readonly session_id: string;
  readonly stream: string;
  readonly correlation_id: string | null;
  readonly max_uses: number | null;
  readonly expires_at: Date;
  readonly created_at: Date;
}

/** Undefined when the scope has no such session; throws token_expired for a time that is over. `rawToken`: shown once. */
export async function createPublicAccessToken(
  db: Queryable,
  scope: ActingScope,
  token: NewPublicAccessToken,
): Promise<(PublicAccessTokenRow & { readonly rawToken: string }) | undefined> {
  const rawToken = `hlmr_pat_${randomBytes(32).toString("base64url")}`;
  const id = uuidv7();
  return await transaction(db, async (tx) => {
    const session = await getSession(tx, scope, token.session);
    if (session === undefined) return undefined;
    const { rows } = await sql<PublicAccessTokenRow>`
      insert into public_access_tokens (id, environment_id, token_hash, scope_type, session_id, stream, correlation_id,
        max_uses, expires_at)
      select ${id}, ${scope.environmentId}, ${hashOf(rawToken)}, ${token.scopeType}, ${session.id}, ${token.stream},
        ${token.correlationId ?? null}, ${token.maxUses ?? null}::integer, ${token.expiresAt}::timestamptz
      where ${token.expiresAt}::timestamptz > now()
      returning id, scope_type, session_id, stream, correlation_id, max_uses, expires_at, created_at`.execute(
      tx,
    );
    const [row] = rows;
    if (row === undefined) throw codedError("token_expired", "expires_at is over; name a later time");
    await recordScopeAudit(tx, scope, {
      action: "public_access_token.create",
      resourceId: id,
      attributes: { scope: token.scopeType, session_id: session.id, stream: token.stream },
    });
    return { ...row, rawToken };
  });
}

/** What a token stands for, usable or not. */
export interface PublicAccessGrant {
  readonly id: string;
  readonly scope: Scope;
  readonly scopeType: PublicAccessScope;
  readonly sessionId: string;
  readonly stream: string;
  readonly correlationId: string | undefined;
  readonly state: "usable" | "revoked" | "expired" | "used_up";
}

/** Undefined for one that is unknown. The state is that of now: what counts is the use. */
export async function findPublicAccessToken(
  db: Queryable,
  rawToken: string,
): Promise<PublicAccessGrant | undefined> {
  if (!publicAccessTokenPattern.test(rawToken)) return undefined;
  const { rows } = await sql<
    PublicAccessTokenRow & Scope & { readonly state: PublicAccessGrant["state"] }
  >`select p.id, p.scope_type, p.session_id, p.stream, p.correlation_id, ${stateOf} as state,
      e.organization_id as "organizationId", e.project_id as "projectId", e.id as "environmentId"
    from public_access_tokens p join environments e on e.id = p.environment_id
    where p.token_hash = ${hashOf(rawToken)} and e.deleting_at is null`.execute(db);
  const [row] = rows;
  if (row === undefined) return undefined;
  const { organizationId, projectId, environmentId } = row;
  return {
    id: row.id,
    scope: { organizationId, projectId, environmentId },
    scopeType: row.scope_type,
    sessionId: row.session_id,
    stream: row.stream,
    correlationId: row.correlation_id ?? undefined,
    state: row.state,
  };
}

const stateOf = sql`case when p.revoked_at is not null then 'revoked' when p.expires_at <= now() then 'expired'
  when p.uses >= p.max_uses then 'used_up' else 'usable' end`;

/** Throws what a token in that state is refused with; nothing for a usable one. */
export function refuseUnusable(state: PublicAccessGrant["state"]): void {
  if (state === "expired") throw codedError("token_expired", "the public access token is expired");
  if (state === "used_up")
    throw codedError("token_scope_denied", "the public access token has no uses left; ask for a new one");
  if (state === "revoked") throw codedError("token_scope_denied", "the public access token was revoked");
}

/** What is asked for with the token: it must be what the token is for. */
export interface PublicAccessRequest {
  readonly stream: string;
  readonly correlationId: string | undefined;
}

/** U1. Throws token_scope_denied, token_expired. */
async function use(
  tx: Tx,
  grant: PublicAccessGrant,
  sessionId: string,
  request: PublicAccessRequest,
): Promise<void> {
  if (grant.sessionId !== sessionId || grant.stream !== request.stream) {
    throw codedError("token_scope_denied", "the public access token is for another stream");
  }
  if (grant.correlationId !== undefined && grant.correlationId !== request.correlationId) {
    throw codedError("token_scope_denied", "correlation_id must be the one the public access token is for");
  }
  const { numAffectedRows = 0n } = await sql`update public_access_tokens p set uses = uses + 1
    where p.id = ${grant.id} and ${stateOf} = 'usable'`.execute(tx);
  if (numAffectedRows > 0n) return;
  const { rows } = await sql<{ state: PublicAccessGrant["state"] }>`select ${stateOf} as state
    from public_access_tokens p where p.id = ${grant.id}`.execute(tx);
  refuseUnusable(rows[0]?.state ?? "revoked");
  // It became usable in between: there is no such transition.
  throw codedError("token_scope_denied");
}

/**
 * Contract 4.3: `appendInput` by a public access token, which is one use. Throws stream_not_found also when there is no
 * such session.
 */
export async function appendPublicInput(
  db: Queryable,
  grant: PublicAccessGrant & { readonly scope: ActingScope },
  key: SessionKey,
  stream: string,
  record: NewRecord,
): Promise<AppendedRecord> {
  const { correlationId } = record;
  const appended = await appendInput(db, grant.scope, key, stream, record, (tx, session) =>
    use(tx, grant, session.id, { stream, correlationId }),
  );
  if (appended === undefined) throw codedError("stream_not_found");
  return appended;
}

/** Contract 4.3: the next record of an output stream, which is one use whether or not there is one. */
export async function readPublicOutput(
  db: Queryable,
  grant: PublicAccessGrant,
  key: SessionKey,
  request: PublicAccessRequest & { readonly afterSequence: number },
): Promise<RecordRow | undefined> {
  return await transaction(db, async (tx) => {
    const session = await getSession(tx, grant.scope, key);
    const stream = { name: request.stream, direction: "output" } as const;
    const records = await readSessionStream(tx, grant.scope, key, stream, { ...request, limit: 1 });
    if (session === undefined || records === undefined) throw codedError("stream_not_found");
    await use(tx, grant, session.id, request);
    return records[0];
  });
}

/** How long a token stays after its expires_at, so that a late client hears "expired". */
const keptAfterExpiry = "7 days";

/** Remove up to `limit` that are long expired; returns how many. */
export async function sweepPublicAccessTokens(db: Queryable, limit: number): Promise<number> {
  const { numAffectedRows = 0n } = await sql`delete from public_access_tokens where ctid = any (array(
    select ctid from public_access_tokens where expires_at <= now() - ${keptAfterExpiry}::interval
    order by expires_at limit ${limit}::integer for update skip locked))`.execute(db);
  return Number(numAffectedRows);
}

function hashOf(rawToken: string): Buffer {
  return createHash("sha256").update(rawToken).digest();
}
