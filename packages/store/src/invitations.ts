/**
 * Invitations to an organization: a link to one e-mail address, of whose token only the sha256 is stored.
 *
 *   -       -> pending    createInvitation
 *   pending -> accepted   acceptInvitation: a membership, in the same transaction; for good
 *   pending -> revoked    revokeInvitation, removeMember (of who invited); for good
 *   pending -> expired    when expires_at has passed (no write)
 *
 * V1 One acceptance: it holds the invitation's row, and a second one finds it accepted.
 * V2 Only a user whose own, verified address is the invited one accepts it: the link alone makes nobody a member.
 * V3 Only owners invite owners (members.ts M2).
 */
import { createHash, randomBytes } from "node:crypto";
import { ApiError, type MemberRole } from "@helmr/api";
import { sql } from "kysely";
import { recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { requireRank } from "./members.ts";
import type { ActingUser, OrganizationRow } from "./organizations.ts";
import { type ActingOrganization, lockOrganization } from "./projects.ts";

export interface InvitationRow {
  readonly id: string;
  readonly email: string;
  readonly role: MemberRole;
  readonly status: "pending" | "accepted" | "revoked" | "expired";
  readonly invited_by_user_id: string | null;
  readonly accepted_by_user_id: string | null;
  readonly revoked_by_user_id: string | null;
  readonly created_at: Date;
  readonly expires_at: Date;
  readonly accepted_at: Date | null;
  readonly revoked_at: Date | null;
}

export interface NewInvitation {
  /** Trimmed, in lower case. */
  readonly email: string;
  readonly role: MemberRole;
  readonly expiresInDays: number;
}

/** E-mails that an organization may cause: bounds what a taken-over account can send in our name. */
export const maxInvitationsPerHour = 100;

const columns = sql<InvitationRow>`i.id, i.email, i.role, i.invited_by_user_id, i.accepted_by_user_id,
  i.revoked_by_user_id, i.created_at, i.expires_at, i.accepted_at, i.revoked_at,
  case when i.accepted_at is not null then 'accepted' when i.revoked_at is not null then 'revoked'
    when i.expires_at <= now() then 'expired' else 'pending' end as status`;

/** Newest first. */
export async function listInvitations(
  db: Queryable,
  organizationId: string,
  limit: number,
): Promise<InvitationRow[]> {
  const { rows } = await sql<InvitationRow>`select ${columns} from invitations i
    where i.organization_id = ${organizationId} order by i.created_at desc, i.id desc limit ${limit}`.execute(
    db,
  );
  return rows;
}

/**
 * `token` is shown this once. Throws ApiError 400 for the address of an active member, 403 as V3 says, 429 after too many.
 */
export async function createInvitation(
  db: Queryable,
  acting: ActingOrganization,
  { email, role, expiresInDays }: NewInvitation,
): Promise<{
  readonly invitation: InvitationRow;
  readonly token: string;
  readonly organizationName: string;
}> {
  const { organizationId, actor } = acting;
  const token = `hlmr_inv_${randomBytes(32).toString("base64url")}`;
  return await transaction(db, async (tx) => {
    await lockOrganization(tx, organizationId);
    await requireRank(tx, acting, [role]);
    await requireStranger(tx, organizationId, email);
    await requireRoom(tx, organizationId);
    const id = uuidv7();
    const { rows } = await sql<InvitationRow & { organization_name: string }>`
      insert into invitations as i (id, organization_id, email, role, token_hash, invited_by_user_id, expires_at)
      values (${id}, ${organizationId}, ${email}, ${role}, ${hashToken(token)}, ${actor.id ?? null},
        now() + make_interval(days => ${expiresInDays}))
      returning ${columns}, (select name from organizations where id = ${organizationId}) as organization_name`.execute(
      tx,
    );
    if (rows[0] === undefined) throw new Error("the insert of an invitation returned no row");
    const { organization_name: organizationName, ...invitation } = rows[0];
    const attributes = { email, role, expires_at: invitation.expires_at.toISOString() };
    await recordAudit(tx, actor, { action: "invitation.create", organizationId, resourceId: id, attributes });
    return { invitation, token, organizationName };
  });
}

async function requireStranger(tx: Tx, organizationId: string, email: string): Promise<void> {
  const { rows } = await sql`select from users u
    join organization_members m on m.user_id = u.id and m.organization_id = ${organizationId} and m.status = 'active'
    where u.email = ${email}`.execute(tx);
  if (rows.length > 0) throw new ApiError(400, "email: this is the address of a member already");
}

async function requireRoom(tx: Tx, organizationId: string): Promise<void> {
  const { rows } = await sql<{ sent: number }>`select count(*) as sent from (
    select from invitations where organization_id = ${organizationId} and created_at > now() - interval '1 hour'
    limit ${maxInvitationsPerHour}::integer) i`.execute(tx);
  if ((rows[0]?.sent ?? 0) >= maxInvitationsPerHour) {
    throw new ApiError(429, `at most ${maxInvitationsPerHour} invitations an hour; try again later`);
  }
}

/** Whether the organization has the invitation; revoking it again changes nothing. Throws ApiError 409 when it was accepted. */
export async function revokeInvitation(
  db: Queryable,
  { organizationId, actor }: ActingOrganization,
  id: string,
): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<InvitationRow>`select ${columns} from invitations i
      where i.organization_id = ${organizationId} and i.id = ${id} for update`.execute(tx);
    const [invitation] = rows;
    if (invitation === undefined) return false;
    if (invitation.status === "accepted") {
      throw new ApiError(409, "the invitation was accepted; remove the member instead");
    }
    if (invitation.revoked_at !== null) return true;
    await sql`update invitations set revoked_at = now(), revoked_by_user_id = ${actor.id ?? null}
      where id = ${id}`.execute(tx);
    const attributes = { email: invitation.email };
    await recordAudit(tx, actor, { action: "invitation.revoke", organizationId, resourceId: id, attributes });
    return true;
  });
}

/**
 * The user becomes a member and the session acts in the organization; who is an active member keeps their role. Throws
 * ApiError 404 for an unknown token, 410 for one that is over, 403 as V2 says.
 */
export async function acceptInvitation(
  db: Queryable,
  user: ActingUser & { readonly email: string | undefined },
  token: string,
): Promise<{ readonly organization: OrganizationRow; readonly role: MemberRole }> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<InvitationRow & { organization_id: string }>`
      select ${columns}, i.organization_id from invitations i where i.token_hash = ${hashToken(token)} for update`.execute(
      tx,
    ); // V1
    const [invitation] = rows;
    if (invitation === undefined) throw new ApiError(404, "invitation not found; ask for a new one");
    if (invitation.status !== "pending") throw new ApiError(410, overMessages[invitation.status]);
    if (user.email !== invitation.email) {
      throw new ApiError(
        403,
        "the invitation is for another e-mail address; sign in with the address that it was sent to",
      ); // V2
    }
    return await join(tx, user, invitation);
  });
}

const overMessages = {
  accepted: "the invitation was used already",
  revoked: "the invitation was revoked; ask for a new one",
  expired: "the invitation is expired; ask for a new one",
} as const;

async function join(
  tx: Tx,
  { actor, userId, sessionId }: ActingUser,
  {
    id,
    organization_id: organizationId,
    role: invitedRole,
  }: InvitationRow & { readonly organization_id: string },
): Promise<{ readonly organization: OrganizationRow; readonly role: MemberRole }> {
  await lockOrganization(tx, organizationId);
  await sql`insert into organization_members as m (organization_id, user_id, role)
    values (${organizationId}, ${userId}, ${invitedRole})
    on conflict (organization_id, user_id) do update set role = excluded.role, status = 'active', disabled_at = null,
      updated_at = now() where m.status = 'disabled'`.execute(tx);
  const { rows } = await sql<OrganizationRow & { role: MemberRole }>`
    select o.id, o.slug, o.name, o.created_at, m.role
    from organizations o join organization_members m on m.organization_id = o.id and m.user_id = ${userId}
    where o.id = ${organizationId}`.execute(tx);
  if (rows[0] === undefined) throw new Error("the new membership is not there");
  const { role, ...organization } = rows[0];
  await sql`update invitations set accepted_at = now(), accepted_by_user_id = ${userId} where id = ${id}`.execute(
    tx,
  );
  await sql`update user_sessions set organization_id = ${organizationId} where id = ${sessionId}`.execute(tx);
  const attributes = { role, user_id: userId };
  await recordAudit(tx, actor, { action: "invitation.accept", organizationId, resourceId: id, attributes });
  return { organization, role };
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
