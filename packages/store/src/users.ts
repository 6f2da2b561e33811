/**
 * People, and how a sign-in finds theirs.
 *
 * U1 One person, one user: two first sign-ins at the same time, by the same e-mail address or the same account of a
 *    provider, give one user. The unique keys decide; the one that loses starts over and finds what the other made.
 * U2 A provider's account is joined to a user that is there already only by an address that the provider has verified.
 *    An address that is not verified is not even stored: whoever proves it later must not get into somebody else's user.
 * U3 Once joined, the account's id counts, not its address: who changes the address at the provider stays the same user.
 */
import { sql } from "kysely";
import { type Actor, recordAudit } from "./audit.ts";
import { isRetryable, type Queryable, retryConflicts, sqlState, type Tx } from "./database.ts";
import { uuidv7 } from "./ids.ts";
import type { IdentityProvider } from "./schema-identity.ts";

export interface User {
  readonly userId: string;
  readonly email: string | undefined;
  readonly displayName: string;
}

/** Somebody's account at a provider, as the provider has just confirmed it. */
export interface ProviderIdentity {
  readonly provider: IdentityProvider;
  /** The provider's URL. */
  readonly issuer: string;
  /** The account's id there, which never changes. */
  readonly subject: string;
  /** U2: only a verified one. */
  readonly verifiedEmail: string | undefined;
  readonly displayName: string | undefined;
  readonly profileImageUrl: string | undefined;
}

/** How addresses are stored and compared. */
export function normalizeEmail(email: string): string {
  return email.trim().toLowerCase();
}

/**
 * A transaction in which users are found or made: run again from the start when another one made the same user first
 * (U1). `work` must have no effect outside of it.
 */
export async function signInTransaction<T>(db: Queryable, work: (tx: Tx) => Promise<T>): Promise<T> {
  const uniqueViolation = "23505";
  return await retryConflicts(
    () => db.transaction().execute(work),
    (error) => isRetryable(error) || sqlState(error) === uniqueViolation,
  );
}

/** The user of an address that has just been proved, made at the first sign-in. Within `signInTransaction`. */
export async function findOrCreateUserByEmail(tx: Tx, actor: Actor, provedEmail: string): Promise<User> {
  const email = normalizeEmail(provedEmail);
  const found = await findUserWhere(tx, "email", email);
  if (found !== undefined) return found;
  const displayName = email.slice(0, email.lastIndexOf("@"));
  return await createUser(tx, actor, { email, displayName, profileImageUrl: undefined, signedUpBy: "email" });
}

/** The user of a provider's account, made or joined (U2) at the first sign-in. Within `signInTransaction`. */
export async function findOrCreateUserByIdentity(
  tx: Tx,
  actor: Actor,
  identity: ProviderIdentity,
): Promise<User> {
  const { provider, issuer, subject } = identity;
  const email = identity.verifiedEmail && normalizeEmail(identity.verifiedEmail);
  const known = await tx
    .selectFrom("user_identities")
    .select("user_id")
    .where("provider", "=", provider)
    .where("issuer", "=", issuer)
    .where("subject", "=", subject)
    .executeTakeFirst();
  if (known !== undefined) return await refreshUser(tx, known.user_id, email, identity.profileImageUrl); // U3
  const user =
    (email === undefined ? undefined : await findUserWhere(tx, "email", email)) ??
    (await createUser(tx, actor, {
      email,
      displayName: identity.displayName ?? email ?? `${provider} ${subject}`,
      profileImageUrl: identity.profileImageUrl,
      signedUpBy: provider,
    }));
  await tx
    .insertInto("user_identities")
    .values({ provider, issuer, subject, user_id: user.userId })
    .execute();
  return user;
}

export async function findUser(db: Queryable, userId: string): Promise<User | undefined> {
  return await findUserWhere(db, "id", userId);
}

/**
 * Where a new session acts: the organization that the user joined last, of those where the membership is active;
 * undefined for a user who is in none.
 */
export async function chooseOrganization(db: Queryable, userId: string): Promise<string | undefined> {
  const row = await db
    .selectFrom("organization_members")
    .select("organization_id")
    .where("user_id", "=", userId)
    .where("status", "=", "active")
    .orderBy("created_at", "desc")
    .orderBy("organization_id", "desc")
    .executeTakeFirst();
  return row?.organization_id;
}

interface NewUser {
  readonly email: string | undefined;
  readonly displayName: string;
  readonly profileImageUrl: string | undefined;
  readonly signedUpBy: "email" | IdentityProvider;
}

const maxDisplayNameLength = 200;

async function createUser(tx: Tx, actor: Actor, user: NewUser): Promise<User> {
  const userId = uuidv7();
  const displayName =
    user.displayName.replaceAll("\0", "").trim().slice(0, maxDisplayNameLength) || "unnamed";
  await tx
    .insertInto("users")
    .values({
      id: userId,
      email: user.email ?? null,
      display_name: displayName,
      profile_image_url: user.profileImageUrl ?? null,
    })
    .execute();
  await recordAudit(
    tx,
    { ...actor, kind: "user", id: userId, label: user.email ?? displayName },
    { action: "user.create", resourceId: userId, attributes: { signed_up_by: user.signedUpBy } },
  );
  return { userId, email: user.email, displayName };
}

/** What a known account brings: its picture, and an address where the user has none and nobody else has this one. */
async function refreshUser(
  tx: Tx,
  userId: string,
  email: string | undefined,
  profileImageUrl: string | undefined,
): Promise<User> {
  await sql`update users u set updated_at = now(), profile_image_url = coalesce(${profileImageUrl ?? null}, u.profile_image_url),
      email = coalesce(u.email, (select new.email from (select ${email ?? null}::text as email) new
        where not exists (select from users o where o.email = new.email)))
    where u.id = ${userId}`.execute(tx);
  const user = await findUserWhere(tx, "id", userId);
  if (user === undefined) throw new Error("an identity names a user that is not there");
  return user;
}

async function findUserWhere(
  db: Queryable,
  column: "id" | "email",
  value: string,
): Promise<User | undefined> {
  const row = await db
    .selectFrom("users")
    .select(["id", "email", "display_name"])
    .where(column, "=", value)
    .executeTakeFirst();
  return row && { userId: row.id, email: row.email ?? undefined, displayName: row.display_name };
}
