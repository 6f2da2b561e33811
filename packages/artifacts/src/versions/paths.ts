/** Paths within a version, as they are asked for: text or bytes, relative to the root. */
import { WorkspaceVersionError } from "./errors.ts";
import type { Manifest } from "./manifest.ts";

/** The names of a path, latin1. Empty ones and `.` are left out, so that `""`, `.` and `/` are the root. */
export function namesOfPath(path: string | Uint8Array): string[] {
  const text = Buffer.from(path as string).toString("latin1");
  const names = text.split("/").filter((name) => name !== "" && name !== ".");
  if (names.includes("..") || text.includes("\0"))
    throw new WorkspaceVersionError("invalid_path", "a path in a workspace has no .. and no NUL");
  return names;
}

export function showPath(path: string | Uint8Array): string {
  return JSON.stringify(Buffer.from(path as string).toString("utf8"));
}

/** The entry at the path, symbolic links not followed. Throws `not_found`. */
export function entryAt(manifest: Manifest, path: string | Uint8Array): number {
  let entry = 0;
  for (const name of namesOfPath(path)) {
    const below = manifest.kind(entry) === "directory" ? manifest.child(entry, name) : undefined;
    if (below === undefined)
      throw new WorkspaceVersionError("not_found", `there is no ${showPath(path)} in this version`);
    entry = below;
  }
  return entry;
}
