/** The file beside a workspace's disk that says what the disk holds. Torn or strange files count as none. */
import { readFile, rename, writeFile } from "node:fs/promises";
import { z } from "zod";

const stored = z.object({
  format: z.literal(1),
  /** Of the host's kernel, when it was written. */
  boot_id: z.string(),
  manifest_digest: z.string().nullable(),
  clean: z.boolean(),
});

export interface WorkspaceState {
  readonly boot: string;
  /** The saved version that the files come from; null: none. */
  readonly manifestDigest: string | null;
  /** Nothing was changed since. */
  readonly isClean: boolean;
}

let boot: Promise<string> | undefined;
/** Names this run of the host's kernel. */
export function thisBoot(): Promise<string> {
  boot ??= readFile("/proc/sys/kernel/random/boot_id", "utf8").then((text) => text.trim());
  return boot;
}

export async function readWorkspaceState(path: string): Promise<WorkspaceState | undefined> {
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    const { boot_id, manifest_digest, clean } = stored.parse(JSON.parse(text));
    return { boot: boot_id, manifestDigest: manifest_digest, isClean: clean };
  } catch {
    return undefined;
  }
}

/** Survives a crash of the worker; what a crash of the host does to it, `boot_id` tells. */
export async function writeWorkspaceState(path: string, state: Omit<WorkspaceState, "boot">): Promise<void> {
  const text = JSON.stringify({
    format: 1,
    boot_id: await thisBoot(),
    manifest_digest: state.manifestDigest,
    clean: state.isClean,
  });
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
