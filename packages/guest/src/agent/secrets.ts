/**
 * Writes a run's file secrets.
 *
 * Outside of the workspace a file lies in the guest's own root or tmpfs and disappears with the guest. Inside it would
 * become part of the next version, so `remove` takes those away before the run's end is reported.
 */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  mkdirSync,
  openSync,
  rmdirSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import type { SecretPlacement } from "@helmr/guest-protocol";
import { type GuestUser, resolveUser } from "./users.ts";

type FilePlacement = Exclude<SecretPlacement, { kind: "env" }>;

export interface PlacedSecrets {
  readonly env: Readonly<Record<string, string>>;
  /** Remove what was written below the workspace; folders made for it go when they are empty. */
  remove(): void;
}

/** Place all secrets. Throws an Error naming the secret and path, never the value. */
export function placeSecrets(
  secrets: readonly SecretPlacement[],
  workspacePath: string,
  user: GuestUser | undefined,
): PlacedSecrets {
  const env: Record<string, string> = {};
  const files: string[] = [];
  const folders: string[] = [];
  for (const secret of secrets) {
    if (secret.kind === "env") {
      // Node would refuse it, too, with an error that shows the value.
      if (secret.value.includes("\0"))
        throw new Error(
          `The secret "${secret.name}" cannot be the variable ${secret.env}: its value has a NUL character; declare it as a file.`,
        );
      env[secret.env] = secret.value;
      continue;
    }
    const base = resolve(workspacePath, secret.path);
    const path = secret.kind === "file" ? base : join(base, secret.name);
    try {
      const made = writeSecret(secret, path, user);
      if (isInside(path, workspacePath)) {
        files.push(path);
        folders.unshift(...made);
      }
    } catch (error) {
      throw new Error(
        `The secret "${secret.name}" cannot be written to ${path}: ${(error as Error).message}`,
      );
    }
  }
  return { env, remove: () => removeAll(files, folders) };
}

/** Returns the folders that had to be made, innermost first. */
function writeSecret(secret: FilePlacement, path: string, user: GuestUser | undefined): string[] {
  const owner = secret.owner === undefined ? user : resolveUser(secret.owner);
  const folders = makeFolders(dirname(path), owner);
  rmSync(path, { force: true });
  // A fresh file: a link somebody left at the path is not followed.
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const file = openSync(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600);
  try {
    const bytes = Buffer.from(secret.value);
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
    if (owner !== undefined) fchownSync(file, owner.uid, owner.gid);
    fchmodSync(file, secret.mode & 0o777);
  } finally {
    closeSync(file);
  }
  return folders;
}

/** Not `mkdir` with `recursive`: under /proc that never returns (Node retries ENOENT for ever). */
function makeFolders(folder: string, owner: GuestUser | undefined): string[] {
  const made: string[] = [];
  for (let path = folder; !existsSync(path) && path !== dirname(path); path = dirname(path)) made.push(path);
  for (const path of made.toReversed()) {
    mkdirSync(path);
    chmodSync(path, 0o755);
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
  }
  return made;
}

function isInside(path: string, folder: string): boolean {
  const way = relative(folder, path);
  return way !== "" && !way.startsWith("..");
}

function removeAll(files: readonly string[], folders: readonly string[]): void {
  for (const path of files) rmSync(path, { force: true, recursive: true });
  for (const path of folders) {
    try {
      rmdirSync(path);
    } catch {
      // The task put something of its own there, or removed it: it stays as the task left it.
    }
  }
}
