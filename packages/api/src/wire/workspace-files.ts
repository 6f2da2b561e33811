/** Files and versions of workspaces (contract 7.7), and what goes beyond it: compare, restore, download, upload. */
import { z } from "zod";
import { idempotencyKey, limit, longLimit, uuid } from "./values.ts";

export const fileKinds = ["file", "directory", "symlink"] as const;

export const workspaceEntry = z.strictObject({
  path: z.string(),
  name: z.string().optional(),
  kind: z.enum(fileKinds),
  size_bytes: z.int(),
  mode: z.int(),
  link_target: z.string().optional(),
  mod_time: z.string().optional(),
});
export const workspaceEntryEnvelope = z.strictObject({ entry: workspaceEntry });
export const workspaceEntryList = z.strictObject({
  path: z.string(),
  entries: z.array(workspaceEntry),
  next_cursor: z.string().optional(),
});

export const workspaceVersion = z.strictObject({
  id: z.string(),
  workspace_id: z.string(),
  parent_version_id: z.string().optional(),
  kind: z.enum(["user", "system"]),
  state: z.literal("ready"),
  content_digest: z.string(),
  size_bytes: z.int(),
  artifact_encoding: z.string(),
  artifact_entry_count: z.int(),
  message: z.string().optional(),
  promoted_at: z.string().optional(),
  created_at: z.string(),
});
export const workspaceVersionEnvelope = z.strictObject({ version: workspaceVersion });
export const workspaceVersionList = z.strictObject({ versions: z.array(workspaceVersion) });

const sources = ["current", "version", "live"] as const;
const path = z
  .string()
  .max(4096, "must be at most 4096 characters")
  .refine(
    (text) => !text.includes("\0") && text.isWellFormed(),
    "must not contain NUL or half a surrogate pair",
  )
  .transform((text) => text.replace(/^(\.?\/+)+/, "").replace(/\/+$/, ""))
  .refine((text) => !text.split("/").includes(".."), 'must not contain ".."')
  .transform((text) => (text === "." ? "" : text));
const source = {
  source: z.enum(sources).optional(),
  version_id: uuid.optional(),
  materialization_id: uuid.optional(),
};
const named = (query: { readonly source?: string | undefined; readonly version_id?: string | undefined }) =>
  (query.source === "version") === (query.version_id !== undefined);
const mustBeNamed = { error: "source=version needs version_id, and version_id needs source=version" };

export const workspaceFilesQuery = z
  .object({
    path: path.optional(),
    ...source,
    limit: longLimit.optional(),
    cursor: z.string().max(8192).optional(),
  })
  .refine(named, mustBeNamed);
export const workspaceFileQuery = z.object({ path, ...source }).refine(named, mustBeNamed);
export const workspaceVersionsQuery = z.object({
  kind: z.enum(["user", "system"]).optional(),
  limit: limit.optional(),
});
export const workspaceVersionParams = z.object({ workspaceID: uuid, versionID: uuid });

const message = z.string().trim().max(2000, "must be at most 2000 characters");
/** Save now. */
export const workspaceCaptureRequest = z.strictObject({
  message: message.optional(),
  idempotency_key: idempotencyKey.optional(),
});
export const workspaceRestoreRequest = z.strictObject({ message: message.optional() });

export const workspaceChange = z.strictObject({
  path: z.string(),
  /** `metadata`: mode, owner or extended attributes only; `renamed`: the same content under another path. */
  change: z.enum(["added", "removed", "modified", "metadata", "type", "renamed"]),
  kind: z.enum(fileKinds),
  size_bytes: z.int(),
  /** Of what was renamed. */
  previous_path: z.string().optional(),
});
export const workspaceDiff = z.strictObject({
  base_version_id: z.string().optional(),
  version_id: z.string(),
  changes: z.array(workspaceChange),
  next_cursor: z.string().optional(),
});
/** `base_version_id`: default the version's parent. */
export const workspaceDiffQuery = z.object({
  base_version_id: uuid.optional(),
  limit: longLimit.optional(),
  cursor: z.string().max(8192).optional(),
});
export const workspaceFileDiffQuery = z.object({ base_version_id: uuid.optional(), path });
export const workspaceFileDiff = z.strictObject({
  path: z.string(),
  /** `binary` and `too_large` have no text. */
  status: z.enum(["text", "binary", "too_large", "unchanged"]),
  /** Unified, three lines of context. */
  diff: z.string().optional(),
});
/** Octal digits of the file's mode; default 644, or what the file had. */
export const workspaceFileWriteQuery = z.object({
  path: path.refine((text) => text !== "", "must name a file"),
  mode: z
    .string()
    .regex(/^[0-7]{3,4}$/, { error: "must be octal digits like 644" })
    .optional(),
  message: message.optional(),
});
/** `merge`: the archive's files over those of the current version; `replace`: instead of them. */
export const workspaceImportQuery = z.object({
  mode: z.enum(["merge", "replace"]).optional(),
  message: message.optional(),
});
