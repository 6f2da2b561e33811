/**
 * vitest global setup of the projects whose tests use a database: names the folder of the shared server, which the first
 * test that needs one starts, and stops the server at the end.
 */
import { mkdtempSync } from "node:fs";
import { chmod, rm } from "node:fs/promises";
import { join } from "node:path";
import { stopStalePostgres } from "../src/embedded-postgres.ts";

export default async function setup(): Promise<(() => Promise<void>) | undefined> {
  if (process.env.HELMR_TEST_POSTGRES_DIR !== undefined) return undefined;
  const folder = mkdtempSync(join("/tmp", "helmr-testdb-"));
  await chmod(folder, 0o711); // the server is another user under root
  process.env.HELMR_TEST_POSTGRES_DIR = folder;
  return async () => {
    await stopStalePostgres(join(folder, "data"));
    await rm(folder, { recursive: true, force: true });
    delete process.env.HELMR_TEST_POSTGRES_DIR;
  };
}
