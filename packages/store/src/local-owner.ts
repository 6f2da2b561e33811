/** The owner of an embedded stack: the person at this machine, who signs in by being there (identity provider `local`). */
import { sql } from "kysely";
import { recordAudit, systemActor } from "./audit.ts";
import { type Queryable, transaction } from "./database.ts";
import { uuidv7 } from "./ids.ts";

/** One per installation: nothing names another. */
const identity = { provider: "local", issuer: "local", subject: "owner" } as const;
const displayName = "Local owner";

/** Make what is missing; the same call always gives the same user, an active owner of the organization again. */
export async function ensureLocalOwner(
  db: Queryable,
  organizationId: string,
): Promise<{ readonly userId: string }> {
  return await transaction(db, async (tx) => {
    // Several processes at once: the first one makes the user, the others wait for it here.
    await sql`select pg_advisory_xact_lock(hashtext('helmr local owner'))`.execute(tx);
    const known = await tx
      .selectFrom("user_identities")
      .select("user_id")
      .where("provider", "=", identity.provider)
      .where("issuer", "=", identity.issuer)
      .where("subject", "=", identity.subject)
      .executeTakeFirst();
    const userId = known?.user_id ?? uuidv7();
    if (known === undefined) {
      await tx.insertInto("users").values({ id: userId, display_name: displayName }).execute();
      await tx
        .insertInto("user_identities")
        .values({ ...identity, user_id: userId })
        .execute();
      await recordAudit(tx, systemActor("helmr dev"), {
        action: "user.create",
        resourceId: userId,
        organizationId,
        attributes: { provider: identity.provider },
      });
    }
    await sql`
      insert into organization_members (organization_id, user_id, role) values (${organizationId}, ${userId}, 'owner')
      on conflict (organization_id, user_id) do update
        set role = 'owner', status = 'active', disabled_at = null, updated_at = now()
        where organization_members.role <> 'owner' or organization_members.status <> 'active'`.execute(tx);
    return { userId };
  });
}
