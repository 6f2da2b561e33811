/** The lifecycle of runs: lifecycle.ts says what there is, one file per transition. */
export * from "./append.ts";
export * from "./cancel.ts";
export * from "./claim.ts";
export * from "./create.ts";
export type { RunOutcome } from "./decide.ts";
export * from "./definition.ts";
export * from "./finish.ts";
export * from "./heartbeat.ts";
export {
  isTerminal,
  liveStatuses,
  maxLosses,
  maxMetadataBytes,
  maxStoredLogBytes,
  type RunRow,
  runStatuses,
  terminalStatuses,
} from "./lifecycle.ts";
export * from "./lose.ts";
export type { MetadataOperation } from "./metadata.ts";
export * from "./pause-queue.ts";
export * from "./queues.ts";
export * from "./read.ts";
export * from "./read-events.ts";
export * from "./read-queues.ts";
export * from "./start.ts";
