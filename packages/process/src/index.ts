/** @helmr/process: what the processes of an installation share. */
export {
  type ArtifactStoreConfig,
  artifactKeys,
  artifactKeyVariables,
  artifactStoreConfig,
  artifactStoreVariables,
  openArtifactParts,
  openArtifactStore,
} from "./artifact-store.ts";
export { ConfigError, type ConfigShape, describeVariables, readConfig, type Values } from "./config.ts";
export { disableCoreDumps } from "./core-dumps.ts";
export { makeFolder } from "./make-folder.ts";
export { redisOptions } from "./redis.ts";
export { listenForStop } from "./signals.ts";
export { failOnStart, logLevel, startLogger } from "./start.ts";
export { tracingVariables } from "./tracing-variables.ts";
export {
  count,
  duration,
  hostPort,
  keepFor,
  metricsListen,
  postgresUrl,
  redisUrl,
  scheduleJitter,
  toAddress,
  tokenOf,
  urlOf,
  workspaceIdleStop,
  workspaceLostAfter,
} from "./variables.ts";
