/**
 * Rotation of the installation's key: the data keys of secrets that are not under the current key are wrapped anew.
 *
 *   R1 A page is one transaction: rows locked, wrapped, written, with an audit record of how many. Ended anywhere, what is
 *      done is done and the next call goes on with the rest.
 *   R2 Rows that somebody else holds are passed over: two calls share the work, and a `secret set` at the same time is
 *      neither waited for nor overwritten. A write counts only where the data key is still the one that was read.
 *   R3 A row that cannot be unwrapped (its key is not configured, or it was changed) is reported and counted as remaining,
 *      and holds up no other row.
 *   R4 `updated_at` stays: nobody has set the value.
 */
import { sql } from "kysely";
import { recordAudit, systemActor } from "./audit.ts";
import { type Queryable, type Tx, transaction } from "./database.ts";
import { type SecretCipher, SecretCipherError, type WrappedKey } from "./secret-cipher.ts";

export interface ReencryptOptions {
  /** Rows of one transaction. Default 200. */
  readonly batch?: number;
  /** After each page that wrapped something: how many so far. */
  readonly onProgress?: (reencrypted: number) => void;
  /** R3: a message for operators, once per row and pass; it names secret and key id. */
  readonly onUnreadable?: (message: string) => void;
}

export interface ReencryptResult {
  readonly reencrypted: number;
  /** Secrets that are still not under the current key; the old key is needed until this is 0. */
  readonly remaining_old_key_count: number;
}

const defaultBatch = 200;

/** Wrap every data key that can be read under the current key. Safe to call at any time, from several processes. */
export async function reencryptSecrets(
  db: Queryable,
  cipher: SecretCipher,
  options: ReencryptOptions = {},
): Promise<ReencryptResult> {
  let reencrypted = 0;
  for (let before = -1; reencrypted > before; ) {
    before = reencrypted;
    for (const keyId of (await secretKeyCounts(db)).keys()) {
      if (keyId === cipher.currentKeyId) continue;
      for (let after: Cursor | undefined = start; after !== undefined; ) {
        const page = await wrapPage(db, cipher, keyId, after, options);
        reencrypted += page.wrapped;
        if (page.wrapped > 0) options.onProgress?.(reencrypted);
        after = page.next;
      }
    }
    // R2: what was passed over is looked at once more, until a whole pass finds nothing to do.
  }
  const counts = await secretKeyCounts(db);
  counts.delete(cipher.currentKeyId);
  return {
    reencrypted,
    remaining_old_key_count: [...counts.values()].reduce((sum, count) => sum + count, 0),
  };
}

/** How many secrets are under each key. */
export async function secretKeyCounts(db: Queryable): Promise<Map<string, number>> {
  const { rows } = await sql<{ key_id: string; count: number }>`
    select key_id, count(*) as count from secrets group by key_id order by key_id`.execute(db);
  return new Map(rows.map(({ key_id, count }) => [key_id, count]));
}

interface Cursor {
  readonly environmentId: string;
  readonly name: string;
}
const start: Cursor = { environmentId: "00000000-0000-0000-0000-000000000000", name: "" };

interface LockedRow extends Cursor {
  readonly dataKey: Buffer;
}

/** R1 */
async function wrapPage(
  db: Queryable,
  cipher: SecretCipher,
  keyId: string,
  after: Cursor,
  options: ReencryptOptions,
): Promise<{ readonly wrapped: number; readonly next: Cursor | undefined }> {
  const limit = options.batch ?? defaultBatch;
  return await transaction(db, async (tx) => {
    const { rows } = await sql<LockedRow>`
      select environment_id as "environmentId", name, data_key as "dataKey" from secrets
      where key_id = ${keyId} and (environment_id, name) > (${after.environmentId}::uuid, ${after.name}::text)
      order by environment_id, name limit ${limit} for update skip locked`.execute(tx);
    const wrapped = await writeWrapped(tx, keyId, wrapRows(cipher, keyId, rows, options));
    if (wrapped > 0) {
      await recordAudit(tx, systemActor("helmr-control"), {
        action: "secret.reencrypt",
        attributes: { count: wrapped, from_key_id: keyId, to_key_id: cipher.currentKeyId },
      });
    }
    return { wrapped, next: rows.length < limit ? undefined : rows.at(-1) };
  });
}

interface Wrapped {
  readonly row: LockedRow;
  readonly wrapped: WrappedKey;
}

function wrapRows(
  cipher: SecretCipher,
  keyId: string,
  rows: readonly LockedRow[],
  { onUnreadable }: ReencryptOptions,
): Wrapped[] {
  return rows.flatMap((row) => {
    try {
      return [{ row, wrapped: cipher.rewrap(row.environmentId, row.name, { keyId, dataKey: row.dataKey }) }];
    } catch (error) {
      if (!(error instanceof SecretCipherError)) throw error;
      onUnreadable?.(`environment ${row.environmentId}: ${error.message}`); // R3
      return [];
    }
  });
}

/** R2 */
async function writeWrapped(tx: Tx, keyId: string, rows: readonly Wrapped[]): Promise<number> {
  if (rows.length === 0) return 0;
  const result = await sql`
    update secrets s set key_id = w.new_key_id, data_key = w.new_data_key
    from unnest(${rows.map(({ row }) => row.environmentId)}::uuid[], ${rows.map(({ row }) => row.name)}::text[],
      ${rows.map(({ row }) => row.dataKey)}::bytea[], ${rows.map(({ wrapped }) => wrapped.keyId)}::text[],
      ${rows.map(({ wrapped }) => wrapped.dataKey)}::bytea[])
      as w (environment_id, name, data_key, new_key_id, new_data_key)
    where s.environment_id = w.environment_id and s.name = w.name and s.key_id = ${keyId}
      and s.data_key = w.data_key`.execute(tx);
  return Number(result.numAffectedRows ?? 0n);
}
