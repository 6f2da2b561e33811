export * from "./artifact-store.ts";
export {
  extractDeploymentSource,
  type SourceSummary,
  validateDeploymentSource,
} from "./deployment-source.ts";
export * from "./errors.ts";
export { createFolderStore, openFolder } from "./folder-store.ts";
export { type ArtifactKeys, parseArtifactKeys } from "./sealing/header.ts";
export { type ResealResult, resealArtifacts } from "./sealing/reseal.ts";
export { type StoreParts, storeOn } from "./shelf.ts";
export { defaultSourceLimits, type SourceLimits } from "./source-tree.ts";
