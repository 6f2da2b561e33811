/**
 * Members of an organization.
 *
 *   -        -> active     createOrganization (owner), acceptInvitation
 *   active   -> active     updateMember: another role
 *   active   -> disabled   removeMember: their API keys and pending invitations here are revoked, their sessions leave
 *   disabled -> active     acceptInvitation
 *
 * M1 An organization always has an active owner: changes of members hold its row, one after the other.
 * M2 Only owners make, change and remove owners. Whether the actor is one is read under that lock.
 * M3 A change of role names the role that was seen.
 */
import { ApiError, type MemberRole, rolePermissions } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { type ActingOrganization, lockOrganization } from "./projects.ts";
import type { MemberStatus } from "./schema-identity.ts";

export interface MemberRow {
  readonly user_id: string;
  readonly display_name: string;
  readonly email: string | null;
  readonly role: MemberRole;
  readonly status: MemberStatus;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly disabled_at: Date | null;
}

const selectMembers = sql`select m.user_id, u.display_name, u.email, m.role, m.status, m.created_at, m.updated_at,
  m.disabled_at from organization_members m join users u on u.id = m.user_id`;

/** Active ones first, oldest membership first. */
export async function listMembers(db: Queryable, organizationId: string): Promise<MemberRow[]> {
  const { rows } = await sql<MemberRow>`${selectMembers} where m.organization_id = ${organizationId}
    order by m.status, m.created_at, m.user_id`.execute(db);
  return rows;
}

async function getMember(
  db: Queryable,
  organizationId: string,
  userId: string,
): Promise<MemberRow | undefined> {
  const { rows } = await sql<MemberRow>`${selectMembers}
    where m.organization_id = ${organizationId} and m.user_id = ${userId}`.execute(db);
  return rows[0];
}

/**
 * Undefined when the organization has no such member. Throws ApiError 403 as M2 says, 409 when the role is not the
 * expected one, the member was removed, or no owner would be left.
 */
export async function updateMember(
  db: Queryable,
  acting: ActingOrganization,
  userId: string,
  change: { readonly role: MemberRole; readonly expectedRole: MemberRole },
): Promise<MemberRow | undefined> {
  const { organizationId, actor } = acting;
  return await transaction(db, async (tx) => {
    await lockOrganization(tx, organizationId); // M1
    const before = await getMember(tx, organizationId, userId);
    await requireRank(tx, acting, [change.role, before?.role]);
    if (before === undefined) return undefined;
    if (before.status === "disabled") {
      throw new ApiError(409, "the member was removed; invite them again to make them a member");
    }
    if (before.role !== change.expectedRole) {
      throw new ApiError(
        409,
        `expected_role: the role is ${before.role} meanwhile; read it and decide again`,
      ); // M3
    }
    if (change.role === before.role) return before;
    if (before.role === "owner") await requireOtherOwner(tx, organizationId, userId);
    await sql`update organization_members set role = ${change.role}, updated_at = now()
      where organization_id = ${organizationId} and user_id = ${userId}`.execute(tx);
    const attributes = { role: change.role, previous_role: before.role };
    await recordAudit(tx, actor, { action: "member.update", organizationId, resourceId: userId, attributes });
    return await getMember(tx, organizationId, userId);
  });
}

/** Whether the organization has such a member; one who was removed before stays so. Throws as `updateMember`. */
export async function removeMember(
  db: Queryable,
  acting: ActingOrganization,
  userId: string,
): Promise<boolean> {
  const { organizationId, actor } = acting;
  return await transaction(db, async (tx) => {
    await lockOrganization(tx, organizationId); // M1
    const before = await getMember(tx, organizationId, userId);
    await requireRank(tx, acting, [before?.role]);
    if (before === undefined) return false;
    if (before.status === "disabled") return true;
    if (before.role === "owner") await requireOtherOwner(tx, organizationId, userId);
    await sql`update organization_members set status = 'disabled', disabled_at = now(), updated_at = now()
      where organization_id = ${organizationId} and user_id = ${userId}`.execute(tx);
    const attributes = { role: before.role, ...(await takeAccess(tx, organizationId, userId)) };
    await recordAudit(tx, actor, { action: "member.remove", organizationId, resourceId: userId, attributes });
    return true;
  });
}

/** What a removed member could still act with; how much there was. */
async function takeAccess(tx: Tx, organizationId: string, userId: string): Promise<Record<string, number>> {
  const keys = await sql`update api_keys k set revoked_at = now() from environments e
    where e.id = k.environment_id and e.organization_id = ${organizationId}
      and k.created_by_user_id = ${userId} and k.revoked_at is null`.execute(tx);
  const sessions = await sql`update user_sessions set organization_id = null
    where user_id = ${userId} and organization_id = ${organizationId}`.execute(tx);
  const invitations = await sql`update invitations set revoked_at = now()
    where organization_id = ${organizationId} and invited_by_user_id = ${userId}
      and accepted_at is null and revoked_at is null`.execute(tx);
  return {
    revoked_api_keys: Number(keys.numAffectedRows ?? 0n),
    left_sessions: Number(sessions.numAffectedRows ?? 0n),
    revoked_invitations: Number(invitations.numAffectedRows ?? 0n),
  };
}

/** M2. The actor's role as it is now; the caller holds the organization's row. */
export async function requireRank(
  tx: Tx,
  { organizationId, actor }: ActingOrganization,
  roles: readonly (MemberRole | undefined)[],
): Promise<void> {
  if (actor.kind !== "user" || actor.id === undefined) return;
  const member = await getMember(tx, organizationId, actor.id);
  if (member?.status !== "active" || !rolePermissions[member.role].has("members.manage")) {
    throw new ApiError(403, "permission is required");
  }
  if (roles.includes("owner") && member.role !== "owner") {
    throw new ApiError(403, "only an owner makes, changes or removes owners");
  }
}

/** M1 */
async function requireOtherOwner(tx: Tx, organizationId: string, userId: string): Promise<void> {
  const { rows } = await sql`select from organization_members where organization_id = ${organizationId}
    and role = 'owner' and status = 'active' and user_id <> ${userId} limit 1`.execute(tx);
  if (rows.length === 0) {
    throw new ApiError(409, "this is the last owner; make another member an owner first");
  }
}
