/** `helmr-control secrets reencrypt`. */
import {
  createSecretCipher,
  type Database,
  openDatabase,
  reencryptSecrets,
  requireUsableSchema,
} from "@helmr/store";
import { type Environment, readReencryptConfig } from "./control-config.ts";

/** Exit code 1 when something remains. */
export async function reencrypt(
  environment: Environment,
  options: { readonly json?: boolean },
): Promise<void> {
  const config = readReencryptConfig(environment);
  const cipher = createSecretCipher(config.secretKeys);
  const note = (text: string) => process.stderr.write(`${text}\n`);
  await withDatabase(config.databaseUrl, async (db) => {
    await requireUsableSchema(db);
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

async function withDatabase(url: string, work: (db: Database) => Promise<void>): Promise<void> {
  const db = openDatabase({ url, maxConnections: 2, applicationName: "helmr-control" });
  try {
    await work(db);
  } finally {
    await db.close();
  }
}
