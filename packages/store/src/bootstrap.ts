/** The first tenant, for a stack that has no sign-in: one organization, one project, its environments. */
import { sql } from "kysely";
import { type Queryable, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import { lockOrganizations } from "./organizations.ts";
import { protectedEnvironments } from "./projects.ts";
import type { Scope } from "./scope.ts";

export interface DefaultTenant {
  /** Slugs, lower case. Defaults: `default`, `default`. */
  readonly organization?: string;
  readonly project?: string;
}

/** Make what is missing; the same call always gives the same scopes, also when several processes call at once. */
export async function ensureDefaultTenant(
  db: Queryable,
  tenant: DefaultTenant = {},
): Promise<{ readonly production: Scope; readonly staging: Scope }> {
  const organizationSlug = tenant.organization ?? "default";
  const projectSlug = tenant.project ?? "default";
  return await transaction(db, async (tx) => {
    await lockOrganizations(tx);
    const organizationId = await ensureRow(
      sql`
      insert into organizations (id, slug, name) values (${uuidv7()}, ${organizationSlug}, ${organizationSlug})
      on conflict (slug) do update set slug = excluded.slug returning id`,
      tx,
    );
    const projectId = await ensureRow(
      sql`
      insert into projects (id, organization_id, slug, name, is_default)
      values (${uuidv7()}, ${organizationId}, ${projectSlug}, ${projectSlug}, not exists (
        select from projects where organization_id = ${organizationId} and is_default and deleting_at is null))
      on conflict (organization_id, slug) do update set slug = excluded.slug returning id`,
      tx,
    );
    const environment = async (slug: keyof typeof protectedEnvironments): Promise<Scope> => {
      const environmentId = await ensureRow(
        sql`
        insert into environments (id, organization_id, project_id, slug, name, color_hex, is_default)
        values (${uuidv7()}, ${organizationId}, ${projectId}, ${slug}, ${slug}, ${protectedEnvironments[slug]}, ${slug === "production"})
        on conflict (project_id, slug) do update set slug = excluded.slug returning id`,
        tx,
      );
      return { organizationId, projectId, environmentId };
    };
    return { production: await environment("production"), staging: await environment("staging") };
  });
}

async function ensureRow(query: ReturnType<typeof sql>, tx: Queryable): Promise<string> {
  const { rows } = await query.execute(tx);
  const id = (rows[0] as { id: string } | undefined)?.id;
  if (id === undefined) throw new Error("an upsert returned no row");
  return id;
}
