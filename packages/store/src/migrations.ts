/**
 * The migrations of this version: numbered SQL files, never changed once released.
 *
 * A file says which older versions go on with the schema that it makes, by the newest migration that those know:
 *
 *   -- compatible-with: 0009     versions that know 0009 or a later one; it only adds
 *   -- compatible-with: none     no older version: all processes stop for it
 *
 * What it says is stored with it, because the version that must decide does not have the file (decision 0018).
 */
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";

const migrationsDir = new URL("../migrations/", import.meta.url);

export interface Migration {
  /** Of its file: `0006_queues.sql`. */
  readonly name: string;
  readonly sha256: string;
  readonly text: string;
  /** The number of the oldest migration with which a version goes on; undefined when none does. */
  readonly compatibleWith: string | undefined;
}

/** In the order in which they are applied. `folder` is for tests: a later version's. */
export async function readMigrations(folder: URL = migrationsDir): Promise<Migration[]> {
  const names = (await readdir(folder)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(
    names.map(async (name) => {
      const text = await readFile(new URL(name, folder), "utf8");
      const sha256 = createHash("sha256").update(text).digest("hex");
      return { name, text, sha256, compatibleWith: /^-- compatible-with: (\d{4})$/m.exec(text)?.[1] };
    }),
  );
}

let own: Promise<Migration[]> | undefined;

/** This version's. They do not change under it. */
export function ownMigrations(): Promise<Migration[]> {
  own ??= readMigrations();
  return own;
}

/** `0006` of `0006_queues.sql`; they have four digits, so that they compare as text. */
export function migrationNumber(name: string): string {
  return name.slice(0, 4);
}
