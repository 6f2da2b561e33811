/** `helmr-control migrate` and `helmr-control secrets reencrypt`. */
import { readConfig } from "@helmr/process";
import {
  createSecretCipher,
  type Database,
  migrate,
  openDatabase,
  reencryptSecrets,
  requireCurrentSchema,
} from "@helmr/store";
import { type Environment, readReencryptConfig } from "./control-config.ts";
import { databaseVariables } from "./variables.ts";

/** One that waits for others that migrate, then for locks of the tables. */
const migrateTimeoutMs = 10 * 60_000;

export async function migrateDatabase(environment: Environment): Promise<void> {
  const { HELMR_DATABASE_URL: url } = readConfig(databaseVariables, environment);
  await withDatabase(url, migrateTimeoutMs, async (db) => {
    const { applied } = await migrate(db);
    for (const name of applied) process.stdout.write(`applied ${name}\n`);
    process.stdout.write(applied.length === 0 ? "the schema is up to date\n" : "done\n");
  });
}

/** Exit code 1 when something remains. */
export async function reencrypt(
  environment: Environment,
  options: { readonly json?: boolean },
): Promise<void> {
  const config = readReencryptConfig(environment);
  const cipher = createSecretCipher(config.secretKeys);
  const note = (text: string) => process.stderr.write(`${text}\n`);
  await withDatabase(config.databaseUrl, undefined, async (db) => {
    await requireCurrentSchema(db);
    const unreadable = new Set<string>();
    const result = await reencryptSecrets(db, cipher, {
      onProgress: (count) => note(`${count} re-encrypted`),
      onUnreadable: (message) => unreadable.add(message),
    });
    for (const message of unreadable) note(message);
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else {
      process.stdout.write(
        `reencrypted: ${result.reencrypted}\nremaining_old_key_count: ${result.remaining_old_key_count}\n`,
      );
    }
    if (result.remaining_old_key_count > 0) process.exitCode = 1;
  });
}

async function withDatabase(
  url: string,
  statementTimeoutMs: number | undefined,
  work: (db: Database) => Promise<void>,
): Promise<void> {
  const db = openDatabase({
    url,
    maxConnections: 2,
    applicationName: "helmr-control",
    ...(statementTimeoutMs !== undefined && { statementTimeoutMs }),
  });
  try {
    await work(db);
  } finally {
    await db.close();
  }
}
