/** What saves and restores a folder: Helmr's versions, restic, and tar through zstd. Each into storage of its own. */
import { existsSync } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { createFolderStore } from "@helmr/artifacts";
import { restoreTree, saveTree } from "@helmr/artifacts/versions";
import { execa } from "execa";

export interface Contender {
  readonly name: "helmr" | "restic" | "tar_zstd";
  /** Saves the folder; what was saved before may be used. */
  save(): Promise<unknown>;
  /** Restores what was saved last. */
  restore(into: string): Promise<unknown>;
  /** Where everything lies that was saved. */
  readonly storage: string;
}

export function helmr(folder: string, scratch: string): Contender {
  const storage = join(scratch, "helmr");
  const artifacts = createFolderStore(storage);
  const index = join(scratch, "helmr-index");
  let previous: { manifestDigest: string } | undefined;
  return {
    name: "helmr",
    storage,
    save: async () => {
      previous = await saveTree({ folder, artifacts, index, previous });
    },
    restore: async (into) => {
      if (previous === undefined) throw new Error("nothing was saved");
      await restoreTree({ manifestDigest: previous.manifestDigest, folder: into, artifacts });
    },
  };
}

export function tarZstd(folder: string, scratch: string): Contender {
  const storage = join(scratch, "tar_zstd");
  let saves = 0;
  const file = () => join(storage, `${saves}.tar.zst`);
  const shell = (command: string, ...args: string[]) =>
    execa("bash", ["-o", "pipefail", "-c", command, "bash", ...args]);
  return {
    name: "tar_zstd",
    storage,
    save: async () => {
      await mkdir(storage, { recursive: true });
      saves += 1;
      await shell('tar --create --directory "$1" . | zstd --quiet --threads=0 -o "$2"', folder, file());
    },
    restore: (into) =>
      shell('zstd --quiet --decompress --stdout "$1" | tar --extract --directory "$2"', file(), into),
  };
}

/** A repository of its own, made here. */
export async function restic(folder: string, scratch: string, program: string): Promise<Contender> {
  const storage = join(scratch, "restic");
  const env = {
    RESTIC_PASSWORD: "bench",
    RESTIC_REPOSITORY: storage,
    RESTIC_CACHE_DIR: join(scratch, "restic-cache"),
  };
  const run = (...args: string[]) => execa(program, ["--quiet", ...args], { env, cwd: folder });
  await run("init");
  return {
    name: "restic",
    storage,
    save: () => run("backup", "."),
    restore: (into) => run("restore", "latest", "--target", into),
  };
}

/** The restic of the machine, or Debian's package unpacked into `scratch`; a text says why there is none. */
export async function findRestic(scratch: string): Promise<{ program: string } | { missing: string }> {
  try {
    await execa("restic", ["version"]);
    return { program: "restic" };
  } catch {
    // Not installed.
  }
  try {
    await execa("apt-get", ["download", "restic"], { cwd: scratch });
    const archive = (await readdir(scratch)).find((name) => /^restic_.*\.deb$/.test(name));
    if (archive === undefined) return { missing: "apt-get downloaded no package" };
    await execa("dpkg-deb", ["--extract", join(scratch, archive), join(scratch, "restic-package")]);
    const program = join(scratch, "restic-package/usr/bin/restic");
    await execa(program, ["version"]);
    return { program };
  } catch (error) {
    return { missing: error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error) };
  }
}

/** Of all files below. */
export async function storedBytes(folder: string): Promise<number> {
  if (!existsSync(folder)) return 0;
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size;
  return bytes;
}

/** What the page cache holds of these files goes, and of nothing else. */
export async function dropFromCache(folder: string): Promise<void> {
  await execa("sync", ["--file-system", folder]);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile())
      await execa("dd", [
        `if=${join(entry.parentPath, entry.name)}`,
        "iflag=nocache",
        "count=0",
        "status=none",
      ]);
}

export async function emptyFolder(path: string): Promise<string> {
  await rm(path, { recursive: true, force: true });
  await mkdir(path, { recursive: true });
  return path;
}
