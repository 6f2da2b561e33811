/** The difference of one path's text between two versions, as `diff -u` and git show it. */
import { isUtf8 } from "node:buffer";
import { createTwoFilesPatch } from "diff";
import { WorkspaceVersionError } from "./errors.ts";
import type { VersionEntry, VersionReader } from "./open-version.ts";
import { showPath } from "./paths.ts";

export interface UnifiedDiffLimits {
  /** Of either content. */
  readonly maxBytes: number;
  /** After which the texts are too different to be compared. */
  readonly maxMs: number;
}

const defaults: UnifiedDiffLimits = { maxBytes: 1024 * 1024, maxMs: 1000 };

/** `text`: empty when both are the same. `too_large`: beyond the limits. Sizes in bytes, absent where there is no such path. */
export interface UnifiedDiff {
  readonly kind: "text" | "binary" | "too_large";
  readonly diff: string;
  readonly sizeBefore?: number;
  readonly sizeAfter?: number;
}

/**
 * A path that is in one of the two only is compared with nothing; the text of a symbolic link is its target. Rejects with
 * `not_found`, `is_a_directory`, `artifact_missing`, `artifact_corrupt`.
 */
export async function unifiedDiff(
  a: VersionReader,
  b: VersionReader,
  path: string | Uint8Array,
  limits: Partial<UnifiedDiffLimits> = {},
): Promise<UnifiedDiff> {
  const { maxBytes, maxMs } = { ...defaults, ...limits };
  const before = entryOf(a, path);
  const after = entryOf(b, path);
  if (before === undefined && after === undefined)
    throw new WorkspaceVersionError("not_found", `there is no ${showPath(path)} in either version`);
  for (const entry of [before, after])
    if (entry?.kind === "directory")
      throw new WorkspaceVersionError(
        "is_a_directory",
        `${showPath(path)} is a directory in one of the versions`,
      );
  const sizes = {
    ...(before && { sizeBefore: before.sizeBytes }),
    ...(after && { sizeAfter: after.sizeBytes }),
  };
  if ((before?.sizeBytes ?? 0) > maxBytes || (after?.sizeBytes ?? 0) > maxBytes)
    return { kind: "too_large", diff: "", ...sizes };
  const old = await textOf(a, before);
  const now = await textOf(b, after);
  if (old.equals(now)) return { kind: "text", diff: "", ...sizes };
  if (isBinary(old) || isBinary(now)) return { kind: "binary", diff: "", ...sizes };
  const patch = createTwoFilesPatch(
    before === undefined ? "/dev/null" : `a/${before.path}`,
    after === undefined ? "/dev/null" : `b/${after.path}`,
    old.toString("utf8"),
    now.toString("utf8"),
    undefined,
    undefined,
    { context: 3, timeout: maxMs },
  );
  if (patch === undefined) return { kind: "too_large", diff: "", ...sizes };
  return { kind: "text", diff: patch.replace(/^=+\n/, ""), ...sizes };
}

function entryOf(version: VersionReader, path: string | Uint8Array): VersionEntry | undefined {
  try {
    return version.stat(path);
  } catch (error) {
    if (error instanceof WorkspaceVersionError && error.reason === "not_found") return undefined;
    throw error;
  }
}

async function textOf(version: VersionReader, entry: VersionEntry | undefined): Promise<Buffer> {
  if (entry === undefined) return Buffer.alloc(0);
  if (entry.linkTargetBytes !== undefined) return entry.linkTargetBytes;
  const parts: Buffer[] = [];
  for await (const part of version.read(entry.pathBytes)) parts.push(part);
  return Buffer.concat(parts);
}

/** As git does, but over the whole; and what is not UTF-8 cannot be shown. */
const isBinary = (bytes: Buffer) => bytes.includes(0) || !isUtf8(bytes);
