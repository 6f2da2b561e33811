/**
 * @helmr/artifacts/versions: a workspace's folder as an immutable version in the artifact store.
 *
 * A version is one manifest and the packs that its files' content lies in; all are artifacts, named by the sha256 of their bytes.
 *
 * Manifest: the tree in columns (columns.ts; manifest.ts has their names), one value per entry: depth, name, mode with the kind, uid,
 *   gid, mtime in nanoseconds, size, content. Entries are files, directories and symbolic links; entry 0 is the folder itself; a
 *   directory comes before all that is in it, children by the bytes of their names. Names are bytes, so any name survives; since an
 *   entry is a depth and one name, a path that leaves the folder cannot be written. What few entries have lies apart: targets of links,
 *   further names of a file, extended attributes, stretches of data in a file with holes. It is compressed with zstd, against
 *   an earlier version's manifest where that makes it small (manifest-artifact.ts).
 * Content: a file is cut at multiples of 1 MiB. A piece is such a chunk, named by its sha256; chunks that are all zero are
 *   left out. The sha256 of a file of up to 1 MiB is that of its bytes; of a larger one it is that of `helmr large file 1\n<size>\n` and
 *   `<chunk>\n<32 bytes>` of each chunk that is not all zero, so that a hole costs nothing.
 * Pack: blocks one after the other, nothing else. A block is pieces of up to 256 KiB together (or one larger piece), as one zstd
 *   frame, or as it is when that is no longer. The manifest says where: piece -> block and offset, block -> pack, start, lengths.
 * Packs of about 8 to 16 MiB of content end where a piece's digest says so (content-store.ts), so that equal trees have equal packs in
 *   any workspace; a file of 16 MiB and more has packs of its own. What the previous version has is not stored again, wherever in the
 *   tree it is now; packs that are mostly dead, or many and small, are written anew (compaction.ts).
 */
export { type AppliedFile, type ApplyFilesOptions, type ApplyResult, applyFiles } from "./apply-files.ts";
export type { Reserve } from "./artifact-access.ts";
export { diffVersions, type VersionChange } from "./diff-versions.ts";
export { WorkspaceVersionError, type WorkspaceVersionErrorReason } from "./errors.ts";
export { exportTar } from "./export-tar.ts";
export { defaultVersionLimits, type EntryKind, type VersionLimits } from "./format.ts";
export { ManifestCache } from "./manifest-cache.ts";
export { openVersion, type VersionEntry, VersionReader } from "./open-version.ts";
export { type RestoreTreeOptions, restoreTree } from "./restore.ts";
export type { RestoreOutcome } from "./restore-job.ts";
export {
  type SavedVersion,
  type SaveResult,
  type SaveTreeOptions,
  type SkippedPath,
  saveTree,
} from "./save.ts";
export { type UnifiedDiff, type UnifiedDiffLimits, unifiedDiff } from "./unified-diff.ts";
