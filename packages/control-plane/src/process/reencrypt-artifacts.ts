/** `helmr-control artifacts reencrypt`: after a change of HELMR_ARTIFACT_ENCRYPTION_KEY. */
import { resealArtifacts } from "@helmr/artifacts";
import { artifactKeys, artifactStoreConfig, openArtifactParts, readConfig } from "@helmr/process";
import { openDatabase, requireUsableSchema, withArtifactLock } from "@helmr/store";
import type { Environment } from "./control-config.ts";
import { reencryptArtifactsVariables } from "./variables.ts";

/** Exit code 1 when something is left under another key. */
export async function reencryptArtifacts(
  environment: Environment,
  options: { readonly json?: boolean },
): Promise<void> {
  const config = readConfig(reencryptArtifactsVariables, environment);
  const note = (text: string) => process.stderr.write(`${text}\n`);
  // As many as artifacts are worked on at once: each holds its lock in a transaction.
  const db = openDatabase({
    url: config.HELMR_DATABASE_URL,
    maxConnections: 8,
    applicationName: "helmr-control",
  });
  try {
    await requireUsableSchema(db);
    const parts = await openArtifactParts(artifactStoreConfig(config), { keys: artifactKeys(config) });
    const { resealed, remaining, current } = await resealArtifacts(parts, {
      locked: (digest, work) => withArtifactLock(db, digest, work),
      onUnreadable: note,
      onProgress: (count) => note(`${count} re-encrypted`),
    });
    const left = Object.values(remaining).reduce((sum, count) => sum + count, 0);
    const result = {
      reencrypted: resealed,
      current_key_count: current,
      remaining_old_key_count: left,
      remaining_by_key: remaining,
    };
    const lines = [
      `reencrypted: ${resealed}`,
      `under the current key: ${current}`,
      `remaining_old_key_count: ${left}`,
    ];
    lines.push(...Object.entries(remaining).map(([key, count]) => `  under key ${key}: ${count}`));
    process.stdout.write(`${options.json ? JSON.stringify(result) : lines.join("\n")}\n`);
    if (left > 0) process.exitCode = 1;
  } finally {
    await db.close();
  }
}
