/** Where a signed-in user stands: their organization, and what is still missing before they can work. */
import { sql } from "kysely";
import type { Queryable } from "./database.ts";

export interface Standing {
  /** The one asked about. */
  readonly organization: { readonly id: string; readonly slug: string; readonly name: string } | undefined;
  readonly hasProject: boolean;
  /** Whether the installation has any organization yet. */
  readonly anyOrganization: boolean;
}

/** One round trip; without an organization only the last field can be true. */
export async function readStanding(db: Queryable, organizationId: string | undefined): Promise<Standing> {
  const { rows } = await sql<{
    id: string | null;
    slug: string | null;
    name: string | null;
    has_project: boolean;
    any_organization: boolean;
  }>`
    select o.id, o.slug, o.name, exists (select from projects p where p.organization_id = o.id) as has_project,
      exists (select from organizations) as any_organization
    from (select) one left join organizations o on o.id = ${organizationId ?? null}::uuid`.execute(db);
  const row = rows[0];
  if (row === undefined) throw new Error("a select without a condition returned no row");
  const { id, slug, name } = row;
  return {
    organization: id === null || slug === null || name === null ? undefined : { id, slug, name },
    hasProject: row.has_project,
    anyOrganization: row.any_organization,
  };
}
