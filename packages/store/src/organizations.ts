/**
 * Organizations: the tenants.
 *
 *   -  -> there   createOrganization (and ensureDefaultTenant, for a stack without sign-in); none is deleted
 *
 * O1 A self-hosted installation has one: whoever creates one holds the lock of them all while it looks and inserts, also
 *    for the tenant that a stack makes for itself.
 * O2 Its creator is its first owner, in the same transaction; from then on it always has an active one (members.ts M1).
 */
import { ApiError, type MemberRole } from "@helmr/api";
import { sql } from "kysely";
import { type Actor, recordAudit } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { refuseTakenSlug } from "./projects.ts";

export interface OrganizationRow {
  readonly id: string;
  readonly slug: string;
  readonly name: string;
  readonly created_at: Date;
}

/** Who acts without an organization: a signed-in user, by one of their sessions. */
export interface ActingUser {
  readonly actor: Actor;
  readonly userId: string;
  readonly sessionId: string;
}

/** The session acts in the new organization. Throws ApiError 409 when `onlyOne` and there is one, 400 for a taken slug. */
export async function createOrganization(
  db: Queryable,
  { actor, userId, sessionId }: ActingUser,
  { slug, name }: { readonly slug: string; readonly name: string },
  { onlyOne }: { readonly onlyOne: boolean },
): Promise<OrganizationRow> {
  return await refuseTakenSlug(slug, () =>
    transaction(db, async (tx) => {
      if (onlyOne) await requireNone(tx);
      const id = uuidv7();
      const { rows } = await sql<OrganizationRow>`insert into organizations (id, slug, name)
        values (${id}, ${slug}, ${name || slug}) returning id, slug, name, created_at`.execute(tx);
      const [organization] = rows;
      if (organization === undefined) throw new Error("the insert of an organization returned no row");
      await sql`insert into organization_members (organization_id, user_id, role)
        values (${id}, ${userId}, 'owner')`.execute(tx); // O2
      await actIn(tx, sessionId, id);
      const record = { organizationId: id, resourceId: id, attributes: { slug } };
      await recordAudit(tx, actor, { ...record, action: "organization.create" });
      return organization;
    }),
  );
}

/** O1 */
async function requireNone(tx: Tx): Promise<void> {
  await lockOrganizations(tx);
  const { rows } = await sql`select from organizations limit 1`.execute(tx);
  if (rows.length > 0) {
    throw new ApiError(
      409,
      "this installation has its organization; ask one of its owners for an invitation",
    );
  }
}

/** O1: until the transaction ends. */
export async function lockOrganizations(tx: Tx): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended('organizations', 0))`.execute(tx);
}

async function actIn(tx: Tx, sessionId: string, organizationId: string): Promise<void> {
  await sql`update user_sessions set organization_id = ${organizationId} where id = ${sessionId}`.execute(tx);
}

/** Those in which the user is an active member, oldest membership first. */
export async function listOrganizationsOf(
  db: Queryable,
  userId: string,
): Promise<(OrganizationRow & { readonly role: MemberRole })[]> {
  const { rows } = await sql<OrganizationRow & { role: MemberRole }>`
    select o.id, o.slug, o.name, o.created_at, m.role
    from organization_members m join organizations o on o.id = m.organization_id
    where m.user_id = ${userId} and m.status = 'active' order by m.created_at, o.id`.execute(db);
  return rows;
}

/** The session acts there from now on. Undefined when the user is no active member, whether or not it exists. */
export async function selectOrganization(
  db: Queryable,
  { actor, userId, sessionId }: ActingUser,
  organizationId: string,
): Promise<OrganizationRow | undefined> {
  return await transaction(db, async (tx) => {
    const { rows } = await sql<OrganizationRow>`select o.id, o.slug, o.name, o.created_at
      from organization_members m join organizations o on o.id = m.organization_id
      where m.organization_id = ${organizationId} and m.user_id = ${userId} and m.status = 'active'
      for key share of m`.execute(tx);
    if (rows[0] === undefined) return undefined;
    await actIn(tx, sessionId, organizationId);
    const record = { organizationId, resourceId: organizationId };
    await recordAudit(tx, actor, { ...record, action: "organization.select" });
    return rows[0];
  });
}
