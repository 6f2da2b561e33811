/** Saved versions and what differs between them, as the client returns them. */
import { InvalidResponseError } from "../../errors.ts";
import { textOrNull, wireList, wireObject, wireText } from "../wire.ts";
import { optionalText, wireCount } from "./target.ts";

export interface WorkspaceVersion {
  readonly id: string;
  readonly workspaceId: string;
  readonly parentVersionId?: string;
  /** `user`: somebody asked for it. */
  readonly kind: "user" | "system";
  readonly state: string;
  readonly contentDigest: string;
  readonly sizeBytes: number;
  readonly artifactEncoding: string;
  readonly artifactEntryCount: number;
  readonly message?: string;
  readonly promotedAt?: string;
  readonly createdAt: string;
}
export interface WorkspaceChange {
  readonly path: string;
  /**
   * `metadata`: mode, owner or extended attributes only; `type`: a file became a folder, say; `renamed`: the same content under
   * another path.
   */
  readonly change: "added" | "removed" | "modified" | "metadata" | "type" | "renamed";
  readonly kind: "file" | "directory" | "symlink";
  readonly sizeBytes: number;
  /** Of what was renamed. */
  readonly previousPath?: string;
}
export interface WorkspaceDiff {
  /** Absent: compared with an empty workspace. */
  readonly baseVersionId?: string;
  readonly versionId: string;
  readonly changes: readonly WorkspaceChange[];
  /** Null on the last page. */
  readonly nextCursor: string | null;
}
export interface WorkspaceFileDiff {
  readonly path: string;
  /** `binary` and `too_large` have no text. */
  readonly status: "text" | "binary" | "too_large" | "unchanged";
  /** Unified, three lines of context. */
  readonly diff?: string;
}

export function versionOf(value: unknown): WorkspaceVersion {
  const version = wireObject(value, "version");
  const text = (key: string): string => wireText(version, key, "version");
  return Object.freeze({
    id: text("id"),
    workspaceId: text("workspace_id"),
    ...optionalText(version, "parent_version_id", "parentVersionId"),
    kind: text("kind") as WorkspaceVersion["kind"],
    state: text("state"),
    contentDigest: text("content_digest"),
    sizeBytes: wireCount(version, "size_bytes", "version"),
    artifactEncoding: text("artifact_encoding"),
    artifactEntryCount: wireCount(version, "artifact_entry_count", "version"),
    ...optionalText(version, "message", "message"),
    ...optionalText(version, "promoted_at", "promotedAt"),
    createdAt: text("created_at"),
  });
}

export function diffOf(value: unknown): WorkspaceDiff {
  const diff = wireObject(value, "diff");
  return Object.freeze({
    ...optionalText(diff, "base_version_id", "baseVersionId"),
    versionId: wireText(diff, "version_id", "diff"),
    changes: Object.freeze(wireList(diff, "changes").map(changeOf)),
    nextCursor: textOrNull(diff, "next_cursor"),
  });
}

function changeOf(value: unknown): WorkspaceChange {
  const change = wireObject(value, "change");
  return Object.freeze({
    path: wireText(change, "path", "change"),
    change: wireText(change, "change", "change") as WorkspaceChange["change"],
    kind: wireText(change, "kind", "change") as WorkspaceChange["kind"],
    sizeBytes: wireCount(change, "size_bytes", "change"),
    ...optionalText(change, "previous_path", "previousPath"),
  });
}

const fileDiffStatuses = ["text", "binary", "too_large", "unchanged"] as const;

export function fileDiffOf(value: unknown): WorkspaceFileDiff {
  const diff = wireObject(value, "file diff");
  const status = fileDiffStatuses.find((known) => known === diff.status);
  if (status === undefined)
    throw new InvalidResponseError(`file diff: unknown status ${JSON.stringify(diff.status)}`);
  return Object.freeze({
    path: wireText(diff, "path", "file diff"),
    status,
    ...optionalText(diff, "diff", "diff"),
  });
}
