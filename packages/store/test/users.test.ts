/** Users as sign-ins find them: the numbered invariants of users.ts, magic-links.ts and oauth-attempts.ts. */
import {
  type Actor,
  chooseOrganization,
  consumeMagicLink,
  consumeOAuthAttempt,
  createMagicLink,
  createOAuthAttempt,
  findOrCreateUserByEmail,
  findOrCreateUserByIdentity,
  newOAuthToken,
  type ProviderIdentity,
  signInTransaction,
} from "@helmr/store";
import { seedEnvironment, seedMember, startTestDatabase, type TestDatabase } from "@helmr/store/testing";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

let database: TestDatabase;
beforeAll(async () => {
  database = await startTestDatabase();
});
afterAll(() => database.stop());

const actor: Actor = { kind: "anonymous", label: "anonymous", address: "192.0.2.1" };
let count = 0;
const fresh = (name: string) => `${name}${++count}`;
const identityOf = (more: Partial<ProviderIdentity> = {}): ProviderIdentity => ({
  provider: "github",
  issuer: "https://github.com",
  subject: fresh("subject"),
  verifiedEmail: undefined,
  displayName: "Ada",
  profileImageUrl: undefined,
  ...more,
});
const byEmail = (email: string) =>
  signInTransaction(database.db, (tx) => findOrCreateUserByEmail(tx, actor, email));
const byIdentity = (identity: ProviderIdentity) =>
  signInTransaction(database.db, (tx) => findOrCreateUserByIdentity(tx, actor, identity));
const many = <T>(run: () => Promise<T>) => Promise.all(Array.from({ length: 8 }, run));
const creations = async (userId: string) =>
  await database.db
    .selectFrom("audit_log")
    .selectAll()
    .where("action", "=", "user.create")
    .where("resource_id", "=", userId)
    .execute();

describe("U1 one person, one user", () => {
  test("first sign-ins at the same time by the same address", async () => {
    const email = `${fresh("Ada")}@Example.com `;
    const users = await many(() => byEmail(email));
    expect(new Set(users.map((user) => user.userId)).size).toBe(1);
    const [user] = users;
    expect(user?.email).toBe(email.trim().toLowerCase());
    expect(await creations(user?.userId ?? "")).toMatchObject([
      { actor_kind: "user", actor_label: user?.email, address: "192.0.2.1" },
    ]);
  });

  test("first sign-ins at the same time by the same account, with and without an address", async () => {
    for (const verifiedEmail of [undefined, `${fresh("b")}@example.com`]) {
      const identity = identityOf({ verifiedEmail });
      const users = await many(() => byIdentity(identity));
      expect(new Set(users.map((user) => user.userId)).size).toBe(1);
      expect(await creations(users[0]?.userId ?? "")).toHaveLength(1);
    }
  });

  test("by link and by two providers at the same time, all with the same address", async () => {
    const email = `${fresh("c")}@example.com`;
    const github = identityOf({ verifiedEmail: email });
    const oidc = identityOf({ provider: "oidc", issuer: "https://id.example", verifiedEmail: email });
    const users = await Promise.all([byEmail(email), byIdentity(github), byIdentity(oidc), byEmail(email)]);
    expect(new Set(users.map((user) => user.userId)).size).toBe(1);
  });
});

describe("U2 accounts join users by verified addresses only", () => {
  test("verified: the same user", async () => {
    const user = await byEmail(`${fresh("d")}@example.com`);
    const joined = await byIdentity(identityOf({ verifiedEmail: user.email?.toUpperCase() }));
    expect(joined).toEqual(user);
  });

  test("not verified: another user, who does not have the address", async () => {
    const other = await byIdentity(identityOf());
    expect(other.email).toBeUndefined();
    const named = await byIdentity(identityOf({ displayName: "  " }));
    expect(named.displayName).toBe("unnamed");
  });

  test("an address that is verified later is taken when it is free, and left when it is not", async () => {
    const identity = identityOf();
    const first = await byIdentity(identity);
    const taken = await byEmail(`${fresh("e")}@example.com`);
    const stillWithout = await byIdentity({ ...identity, verifiedEmail: taken.email });
    expect(stillWithout).toMatchObject({ userId: first.userId, email: undefined });
    const email = `${fresh("f")}@example.com`;
    expect(await byIdentity({ ...identity, verifiedEmail: email })).toMatchObject({
      userId: first.userId,
      email,
    });
  });
});

test("U3 the account counts, not its address; another issuer's or provider's account of that id is another", async () => {
  const identity = identityOf({ verifiedEmail: `${fresh("g")}@example.com` });
  const user = await byIdentity(identity);
  const moved = await byIdentity({ ...identity, verifiedEmail: `${fresh("h")}@example.com` });
  expect(moved).toEqual(user);
  for (const other of [{ issuer: "https://other.example" }, { provider: "oidc" as const }]) {
    expect((await byIdentity({ ...identity, verifiedEmail: undefined, ...other })).userId).not.toBe(
      user.userId,
    );
  }
});

test("a new session acts in the organization joined last, of the active memberships", async () => {
  const { db } = database;
  const scopes = [];
  for (let index = 0; index < 3; index += 1) scopes.push((await seedEnvironment(db)).scope);
  const [first, second, third] = scopes.map((scope) => scope.organizationId);
  if (first === undefined || second === undefined || third === undefined) throw new Error("not seeded");
  const { userId } = await seedMember(db, first, undefined);
  expect(await chooseOrganization(db, userId)).toBeUndefined();
  const join = (organization_id: string, minutesAgo: number, disabled = false) =>
    db
      .insertInto("organization_members")
      .values({
        organization_id,
        user_id: userId,
        role: "viewer",
        created_at: new Date(Date.now() - minutesAgo * 60_000),
        ...(disabled && { status: "disabled" as const, disabled_at: new Date() }),
      })
      .execute();
  await join(first, 10);
  await join(second, 5);
  await join(third, 1, true);
  expect(await chooseOrganization(db, userId)).toBe(second);
});

describe("magic links", () => {
  const make = async (email = `${fresh("link")}@example.com`) => ({
    email,
    token: await createMagicLink(database.db, { email, redirectAfter: "/x" }),
  });
  const consume = (token: string) => signInTransaction(database.db, (tx) => consumeMagicLink(tx, token));

  test("ML1 sign in once, also when many try at the same time", async () => {
    const { email, token } = await make();
    const results = await many(() => consume(token));
    expect(results.filter((result) => result !== undefined)).toEqual([{ email, redirectAfter: "/x" }]);
    expect(await consume(token)).toBeUndefined();
  });

  test("are not used up by a transaction that fails", async () => {
    const { token } = await make();
    const failing = signInTransaction(database.db, async (tx) => {
      await consumeMagicLink(tx, token);
      throw new Error("fails later");
    });
    await expect(failing).rejects.toThrow("fails later");
    expect(await consume(token)).toBeDefined();
  });

  test("expire after 15 minutes", async () => {
    const { email, token } = await make();
    const age = (minutes: number) =>
      sql`update magic_links set expires_at = created_at + interval '15 minutes' - ${minutes} * interval '1 minute'
        where email = ${email} and expires_at = created_at + interval '15 minutes'`.execute(database.db);
    expect((await age(16)).numAffectedRows).toBe(1n);
    expect(await consume(token)).toBeUndefined();
  });

  test("are stored as hashes, and what is no token is not looked up", async () => {
    const { token } = await make();
    const { rows } = await sql<{ row: string }>`select m::text as row from magic_links m`.execute(
      database.db,
    );
    expect(JSON.stringify(rows)).not.toContain(token);
    for (const text of ["", "x", "\0".repeat(43), `${token}x`]) expect(await consume(text)).toBeUndefined();
  });
});

describe("OAuth attempts", () => {
  const attempt = {
    provider: "oidc",
    codeVerifier: "verifier",
    nonce: "nonce",
    redirectAfter: "/y",
  } as const;
  const start = async () => {
    const browserToken = newOAuthToken();
    return {
      provider: attempt.provider,
      browserToken,
      state: await createOAuthAttempt(database.db, attempt, browserToken),
    };
  };
  const consume = (callback: Parameters<typeof consumeOAuthAttempt>[1]) =>
    consumeOAuthAttempt(database.db, callback);

  test("OA1 count once, also when many come back at the same time", async () => {
    const callback = await start();
    const results = await many(() => consume(callback));
    expect(results.filter((result) => result !== undefined)).toEqual([attempt]);
  });

  test("OA2 another browser's or provider's callback is refused and uses up nothing", async () => {
    const callback = await start();
    expect(await consume({ ...callback, browserToken: newOAuthToken() })).toBeUndefined();
    expect(await consume({ ...callback, browserToken: "" })).toBeUndefined();
    expect(await consume({ ...callback, provider: "github" })).toBeUndefined();
    expect(await consume({ ...callback, state: newOAuthToken() })).toBeUndefined();
    expect(await consume(callback)).toEqual(attempt);
  });

  test("expire after 10 minutes", async () => {
    const callback = await start();
    const { numAffectedRows } =
      await sql`update oauth_attempts set expires_at = created_at + interval '10 minutes' - interval '11 minutes'
        where consumed_at is null and expires_at = created_at + interval '10 minutes'`.execute(database.db);
    expect(numAffectedRows).toBeGreaterThan(0n);
    expect(await consume(callback)).toBeUndefined();
  });

  test("state and browser are stored as hashes", async () => {
    const { state, browserToken } = await start();
    const { rows } = await sql<{ row: string }>`select a::text as row from oauth_attempts a`.execute(
      database.db,
    );
    expect(JSON.stringify(rows)).not.toContain(state);
    expect(JSON.stringify(rows)).not.toContain(browserToken);
  });
});
