/** Rotation of the installation's key over real rows: in pages, twice at once, beside writes, with rows that cannot be read. */
import { randomBytes } from "node:crypto";
import { sql } from "kysely";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createSecretCipher,
  deleteSecret,
  putSecret,
  readSecretValues,
  reencryptSecrets,
  type SecretCipher,
} from "../src/index.ts";
import {
  type SeededEnvironment,
  seedEnvironment,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

const newKey = () => randomBytes(32).toString("base64");
const keys = { old: newKey(), current: newKey() };
const before = createSecretCipher({ current: keys.old });
const rotating = createSecretCipher({ current: keys.current, old: keys.old });
const after = createSecretCipher({ current: keys.current });

let database: TestDatabase;
let environment: SeededEnvironment;
let other: SeededEnvironment;

beforeEach(async () => {
  database = await startTestDatabase();
  environment = await seedEnvironment(database.db);
  other = await seedEnvironment(database.db);
});
afterEach(() => database.stop());

const nameOf = (n: number) => `SECRET_${n}`;

async function put(cipher: SecretCipher, count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) {
    const { scope } = n % 2 === 0 ? environment : other;
    await putSecret(database.db, cipher, scope, nameOf(n), `value ${n}`);
  }
}

async function valuesWith(cipher: SecretCipher, names: readonly string[]): Promise<Map<string, string>> {
  const read = ({ scope }: SeededEnvironment) =>
    readSecretValues(database.db, cipher, scope.environmentId, names);
  return new Map([...(await read(environment)), ...(await read(other))]);
}

async function auditCounts(): Promise<{ actor_kind: string; attributes: Record<string, unknown> }[]> {
  return (await database.db
    .selectFrom("audit_log")
    .select(["actor_kind", "attributes"])
    .where("action", "=", "secret.reencrypt")
    .orderBy("id")
    .execute()) as never;
}

describe("reencryptSecrets", () => {
  test("wraps every data key in pages; afterwards the old key is not needed and values are untouched", async () => {
    await put(before, 25);
    const stored = await sql<{ ciphertext: Buffer; updated_at: Date }>`
      select ciphertext, updated_at from secrets order by environment_id, name`.execute(database.db);
    const progress: number[] = [];
    const result = await reencryptSecrets(database.db, rotating, {
      batch: 7,
      onProgress: (count) => progress.push(count),
    });
    expect(result).toEqual({ reencrypted: 25, remaining_old_key_count: 0 });
    expect(progress).toEqual([7, 14, 21, 25]);
    const names = Array.from({ length: 25 }, (_, n) => nameOf(n));
    expect(await valuesWith(after, names)).toEqual(new Map(names.map((name, n) => [name, `value ${n}`])));
    const now = await sql`select ciphertext, updated_at from secrets order by environment_id, name`.execute(
      database.db,
    );
    expect(now.rows).toEqual(stored.rows);
    const audit = await auditCounts();
    expect(audit.map(({ attributes }) => attributes.count)).toEqual([7, 7, 7, 4]);
    expect(audit[0]).toMatchObject({
      actor_kind: "system",
      attributes: { from_key_id: before.currentKeyId, to_key_id: after.currentKeyId },
    });
    expect(await reencryptSecrets(database.db, after)).toEqual({
      reencrypted: 0,
      remaining_old_key_count: 0,
    });
    expect(await auditCounts()).toHaveLength(4);
  });

  test("goes on after it was ended halfway", async () => {
    await put(before, 10);
    const halfway = reencryptSecrets(database.db, rotating, {
      batch: 3,
      onProgress: (count) => {
        if (count >= 6) throw new Error("ended");
      },
    });
    await expect(halfway).rejects.toThrow("ended");
    expect(await reencryptSecrets(database.db, rotating, { batch: 3 })).toEqual({
      reencrypted: 4,
      remaining_old_key_count: 0,
    });
  });

  test("two at once share the work and count every row once", async () => {
    await put(before, 60);
    const results = await Promise.all([
      reencryptSecrets(database.db, rotating, { batch: 4 }),
      reencryptSecrets(database.db, rotating, { batch: 5 }),
    ]);
    expect(results.reduce((sum, { reencrypted }) => sum + reencrypted, 0)).toBe(60);
    expect(await reencryptSecrets(database.db, rotating)).toEqual({
      reencrypted: 0,
      remaining_old_key_count: 0,
    });
  });

  test("values set and deleted meanwhile win, also those of a process that still writes under the old key", async () => {
    await put(before, 40);
    const { db } = database;
    const setAnew = (n: number) =>
      putSecret(db, n % 4 === 0 ? before : rotating, environment.scope, nameOf(n), `set ${n}`);
    await Promise.all([
      reencryptSecrets(db, rotating, { batch: 1 }),
      ...Array.from({ length: 15 }, (_, n) => setAnew(2 * n)),
      ...Array.from({ length: 5 }, (_, n) => deleteSecret(db, environment.scope, nameOf(30 + 2 * n))),
    ]);
    expect((await reencryptSecrets(db, rotating)).remaining_old_key_count).toBe(0);
    const names = Array.from({ length: 40 }, (_, n) => nameOf(n));
    const values = await valuesWith(after, names);
    names.forEach((name, n) => {
      const kept = n % 2 === 1 ? `value ${n}` : n < 30 ? `set ${n}` : undefined;
      expect(values.get(name)).toBe(kept);
    });
  });

  test("a row that another transaction holds is passed over, not waited for", async () => {
    await put(before, 3);
    const held = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const holder = database.db.transaction().execute(async (tx) => {
      await sql`select 1 from secrets where name = ${nameOf(1)} for update`.execute(tx);
      locked.resolve();
      await held.promise;
    });
    await locked.promise;
    const result = await reencryptSecrets(database.db, rotating);
    held.resolve();
    await holder;
    expect(result).toEqual({ reencrypted: 2, remaining_old_key_count: 1 });
    expect(await reencryptSecrets(database.db, rotating)).toEqual({
      reencrypted: 1,
      remaining_old_key_count: 0,
    });
  });

  test("a row that cannot be read is reported, counted, and holds up no other", async () => {
    await put(before, 5);
    await sql`update secrets set data_key = ${randomBytes(60)} where name = ${nameOf(1)}`.execute(
      database.db,
    );
    const lost = createSecretCipher({ current: newKey() });
    await putSecret(database.db, lost, environment.scope, "LOST", "x");
    const messages = new Set<string>();
    const result = await reencryptSecrets(database.db, rotating, {
      batch: 2,
      onUnreadable: (message) => messages.add(message),
    });
    expect(result).toEqual({ reencrypted: 4, remaining_old_key_count: 2 });
    expect([...messages].join("\n")).toMatch(/SECRET_1 cannot be decrypted/);
    expect([...messages].join("\n")).toContain(`LOST is encrypted under key ${lost.currentKeyId}`);
    for (const text of ["value 1", keys.old, keys.current]) expect([...messages].join()).not.toContain(text);
  });
});

test("pages of the rotation are read by index", async () => {
  const { rows } = await database.db.transaction().execute(async (tx) => {
    await sql`set local enable_seqscan = off`.execute(tx);
    return await sql<{ "QUERY PLAN": string }>`explain select data_key from secrets
      where key_id = 'x' and (environment_id, name) > (${environment.scope.environmentId}::uuid, '')
      order by environment_id, name limit 200 for update skip locked`.execute(tx);
  });
  const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
  expect(plan).toContain("secrets_by_key");
  expect(plan).not.toContain("Sort");
});
