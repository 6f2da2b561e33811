/** @helmr/artifacts/archive: encrypted archives of checkpoints. */
export { ArchiveError, type ArchiveErrorReason } from "./errors.ts";
export { type ArchiveKeys, parseArchiveKeys } from "./keys.ts";
export { type OpenedArchive, type OpenOptions, openArchive } from "./open.ts";
export { type ArchivePart, type SealedArchive, type SealStats, sealArchive } from "./seal.ts";
export { captureTree, restoreTree, type TreeSelection } from "./tree.ts";
