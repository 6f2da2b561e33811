/**
 * Sessions of users: an opaque token in a browser's cookie or a command line's file; only its sha256 is stored.
 *
 *   active -> expired   30 days after the last use (no write)
 *   active -> revoked   signing out, here or everywhere; for good
 */
import { createHash, randomBytes } from "node:crypto";
import type { MemberRole } from "@helmr/api";
import { sql } from "kysely";
import { type Actor, recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import type { MemberStatus } from "./schema-identity.ts";

/** Contract 12. */
export const userSessionDays = 30;
const tokenBytes = 32;

/** What a session token looks like; API keys have a prefix that tells them apart. */
export const userSessionTokenPattern = /^(?!hlmr_)[A-Za-z0-9_-]{40,512}$/;

export interface NewUserSession {
  readonly userId: string;
  /** Where its requests act at first; undefined for a user without a membership. */
  readonly organizationId: string | undefined;
  readonly kind: "browser" | "cli";
}

export interface UserSessionGrant {
  readonly sessionId: string;
  readonly userId: string;
  readonly displayName: string;
  readonly email: string | undefined;
  readonly profileImageUrl: string | undefined;
  readonly expiresAt: Date;
  /** Of the organization in which the session acts; undefined when the user has none. */
  readonly membership:
    | { readonly organizationId: string; readonly role: MemberRole; readonly status: MemberStatus }
    | undefined;
  /** Only for a look-up with a reference: what it names in that organization. */
  readonly projectId: string | undefined;
  readonly environmentId: string | undefined;
}

/** Names a project and an environment, each by UUID or slug in any case. */
export interface EnvironmentReference {
  readonly project: string;
  readonly environment: string;
}

/** The token is shown this once. Records who signed in, and from where. */
export async function createUserSession(
  tx: Tx,
  actor: Actor,
  session: NewUserSession,
): Promise<{ readonly id: string; readonly token: string; readonly expiresInSeconds: number }> {
  const token = newToken();
  const id = uuidv7();
  await sql`insert into user_sessions (id, user_id, organization_id, token_hash, kind, expires_at, address, user_agent)
    values (${id}, ${session.userId}, ${session.organizationId ?? null}, ${hashToken(token)}, ${session.kind},
      now() + make_interval(days => ${userSessionDays}), ${actor.address ?? null}, ${actor.userAgent ?? null})`.execute(
    tx,
  );
  await recordAudit(
    tx,
    { ...actor, kind: "user", id: session.userId },
    {
      action: "user.sign_in",
      resourceId: session.userId,
      ...(session.organizationId === undefined ? {} : { organizationId: session.organizationId }),
      attributes: { session_id: id, kind: session.kind },
    },
  );
  return { id, token, expiresInSeconds: userSessionDays * 86_400 };
}

/** A token must not look like any prefixed credential; one in 16 million random ones starts with `hlmr`. */
function newToken(): string {
  for (;;) {
    const token = randomBytes(tokenBytes).toString("base64url");
    if (userSessionTokenPattern.test(token)) return token;
  }
}

interface GrantRow {
  readonly id: string;
  readonly user_id: string;
  readonly expires_at: Date;
  readonly display_name: string;
  readonly email: string | null;
  readonly profile_image_url: string | null;
  readonly organization_id: string | null;
  readonly role: MemberRole | null;
  readonly status: MemberStatus | null;
  readonly project_id: string | null;
  readonly environment_id: string | null;
}

/**
 * What the token grants, or undefined for one that is unknown, expired or revoked. With a reference also which
 * environment of the session's organization it names: one round trip for a request's whole authorization.
 */
export async function findUserSession(
  db: Queryable,
  token: string,
  reference?: EnvironmentReference,
): Promise<UserSessionGrant | undefined> {
  if (!userSessionTokenPattern.test(token)) return undefined;
  const project = keyOf(reference?.project);
  const environment = keyOf(reference?.environment);
  const { rows } = await sql<GrantRow>`
    select s.id, s.user_id, s.expires_at, u.display_name, u.email, u.profile_image_url, m.organization_id, m.role, m.status,
      p.id as project_id, e.id as environment_id
    from user_sessions s
    join users u on u.id = s.user_id
    left join organization_members m on m.organization_id = s.organization_id and m.user_id = s.user_id
    left join projects p on p.organization_id = m.organization_id and p.deleting_at is null
      and (p.id = ${project.id}::uuid or p.slug = ${project.slug}::text)
    left join environments e on e.project_id = p.id and e.deleting_at is null
      and (e.id = ${environment.id}::uuid or e.slug = ${environment.slug}::text)
    where s.token_hash = ${hashToken(token)} and s.revoked_at is null and s.expires_at > now()`.execute(db);
  const row = rows[0];
  if (row === undefined) return undefined;
  return {
    sessionId: row.id,
    userId: row.user_id,
    displayName: row.display_name,
    email: row.email ?? undefined,
    profileImageUrl: row.profile_image_url ?? undefined,
    expiresAt: row.expires_at,
    membership:
      row.organization_id === null || row.role === null || row.status === null
        ? undefined
        : { organizationId: row.organization_id, role: row.role, status: row.status },
    projectId: row.project_id ?? undefined,
    environmentId: row.environment_id ?? undefined,
  };
}

const uuidPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const slugPattern = /^[a-z0-9][a-z0-9-]{0,62}$/;

/** Anything that is neither names nothing; a slug is never a UUID (projects.ts refuses such). */
function keyOf(text: string | undefined): { readonly id: string | null; readonly slug: string | null } {
  const lower = text?.toLowerCase() ?? "";
  if (uuidPattern.test(lower)) return { id: lower, slug: null };
  return { id: null, slug: slugPattern.test(lower) ? lower : null };
}

/** Note the use of these sessions and slide their expiry; at most once a minute each is written. */
export async function touchUserSessions(db: Queryable, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return;
  await sql`update user_sessions set last_used_at = now(), expires_at = now() + make_interval(days => ${userSessionDays})
    where id = any(${ids}::uuid[]) and revoked_at is null and last_used_at < now() - interval '1 minute'`.execute(
    db,
  );
}

/** Sign out; whether the session was active. */
export async function revokeUserSession(db: Queryable, actor: Actor, sessionId: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<{ user_id: string; organization_id: string | null }>`
      update user_sessions set revoked_at = now() where id = ${sessionId} and revoked_at is null
      returning user_id, organization_id`.execute(tx);
    const row = rows[0];
    if (row === undefined) return false;
    await recordAudit(tx, actor, {
      action: "user.sign_out",
      resourceId: row.user_id,
      ...(row.organization_id === null ? {} : { organizationId: row.organization_id }),
      attributes: { session_id: sessionId },
    });
    return true;
  });
}

/**
 * A browser that signs in again gets a new token, and the one it had ends: what knew the old token is out (rotation).
 * Whether there was an active session.
 */
export async function replaceUserSession(tx: Tx, actor: Actor, replacedToken: string): Promise<boolean> {
  if (!userSessionTokenPattern.test(replacedToken)) return false;
  const { rows } = await sql<{ id: string; user_id: string; organization_id: string | null }>`
    update user_sessions set revoked_at = now() where token_hash = ${hashToken(replacedToken)} and revoked_at is null
    returning id, user_id, organization_id`.execute(tx);
  const row = rows[0];
  if (row === undefined) return false;
  await recordAudit(tx, actor, {
    action: "user.sign_out",
    resourceId: row.user_id,
    ...(row.organization_id === null ? {} : { organizationId: row.organization_id }),
    attributes: { session_id: row.id, replaced: true },
  });
  return true;
}

/** Sign out everywhere, also at a command line that was approved and has not come for its session; how many ended. */
export async function revokeUserSessions(
  db: Queryable,
  actor: Actor,
  userId: string,
  organizationId?: string,
): Promise<number> {
  return await transaction(db, async (tx) => {
    const { numAffectedRows = 0n } = await sql`update user_sessions set revoked_at = now()
      where user_id = ${userId} and revoked_at is null`.execute(tx);
    await sql`update device_codes set status = 'denied', user_id = null, organization_id = null
      where user_id = ${userId} and status = 'approved'`.execute(tx);
    await recordAudit(tx, actor, {
      action: "user.sign_out_everywhere",
      resourceId: userId,
      ...(organizationId === undefined ? {} : { organizationId }),
      attributes: { sessions: Number(numAffectedRows) },
    });
    return Number(numAffectedRows);
  });
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
