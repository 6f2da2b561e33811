/** Secrets of an environment: written by people, read by name for the worker that runs a task which declares them. */
import { sql } from "kysely";
import { recordScopeAudit } from "./audit.ts";
import { type Queryable, transaction } from "./database.ts";
import type { ActingScope, Scope } from "./scope.ts";
import type { SecretCipher } from "./secret-cipher.ts";

export interface SecretRow {
  readonly name: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** Contract 10: the list is cut at 200. */
const maxListed = 200;

/** Create or overwrite; the row without its value. */
export async function putSecret(
  db: Queryable,
  cipher: SecretCipher,
  scope: ActingScope,
  name: string,
  value: string,
): Promise<SecretRow> {
  const encrypted = cipher.encrypt(scope.environmentId, name, value);
  const columns = {
    key_id: encrypted.keyId,
    data_key: encrypted.dataKey,
    nonce: encrypted.nonce,
    ciphertext: encrypted.ciphertext,
  };
  return await transaction(db, async (tx) => {
    const row = await tx
      .insertInto("secrets")
      .values({ environment_id: scope.environmentId, name, ...columns })
      .onConflict((conflict) =>
        conflict.columns(["environment_id", "name"]).doUpdateSet({ ...columns, updated_at: sql`now()` }),
      )
      .returning(["name", "created_at", "updated_at"])
      .executeTakeFirstOrThrow();
    await recordScopeAudit(tx, scope, { action: "secret.set", resourceId: name });
    return row;
  });
}

export async function listSecrets(db: Queryable, scope: Scope): Promise<SecretRow[]> {
  return await db
    .selectFrom("secrets")
    .select(["name", "created_at", "updated_at"])
    .where("environment_id", "=", scope.environmentId)
    .orderBy("name")
    .limit(maxListed)
    .execute();
}

export async function getSecret(db: Queryable, scope: Scope, name: string): Promise<SecretRow | undefined> {
  return await db
    .selectFrom("secrets")
    .select(["name", "created_at", "updated_at"])
    .where("environment_id", "=", scope.environmentId)
    .where("name", "=", name)
    .executeTakeFirst();
}

/** Whether there was one. */
export async function deleteSecret(db: Queryable, scope: ActingScope, name: string): Promise<boolean> {
  return await transaction(db, async (tx) => {
    const { numDeletedRows } = await tx
      .deleteFrom("secrets")
      .where("environment_id", "=", scope.environmentId)
      .where("name", "=", name)
      .executeTakeFirst();
    if (numDeletedRows > 0n) await recordScopeAudit(tx, scope, { action: "secret.delete", resourceId: name });
    return numDeletedRows > 0n;
  });
}

/**
 * The values, by name; a name without a value is absent. Only for the worker whose lease declares these names: never
 * logged, never part of an error.
 */
export async function readSecretValues(
  db: Queryable,
  cipher: SecretCipher,
  environmentId: string,
  names: readonly string[],
): Promise<Map<string, string>> {
  if (names.length === 0) return new Map();
  const rows = await db
    .selectFrom("secrets")
    .select(["name", "key_id", "data_key", "nonce", "ciphertext"])
    .where("environment_id", "=", environmentId)
    .where("name", "=", sql<string>`any(${names}::text[])`)
    .execute();
  return new Map(
    rows.map(({ name, key_id, data_key, nonce, ciphertext }) => [
      name,
      cipher.decrypt(environmentId, name, { keyId: key_id, dataKey: data_key, nonce, ciphertext }),
    ]),
  );
}
