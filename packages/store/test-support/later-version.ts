/** The migrations of a version after this one. */
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const migrationsDir = join(import.meta.dirname, "../migrations");

export interface LaterVersion extends AsyncDisposable {
  /** For `migrate`. */
  readonly folder: URL;
  readonly name: string;
}

/** This version's, and one with this text. */
export async function laterVersion(text: string): Promise<LaterVersion> {
  const path = await mkdtemp(join(tmpdir(), "helmr-migrations-"));
  const name = "9999_later.sql";
  await cp(migrationsDir, path, { recursive: true });
  await writeFile(join(path, name), text);
  return {
    folder: pathToFileURL(`${path}/`),
    name,
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}
