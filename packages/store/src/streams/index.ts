export { type AppendedRecord, appendInput, appendOutput, type NewRecord, type Permit } from "./append.ts";
export { type Continuation, continueSessions } from "./continue.ts";
export * from "./read.ts";
export * from "./run-streams.ts";
export {
  findSessionStream,
  isDeclared,
  listSessionStreams,
  type SessionStreamRow,
} from "./session-streams.ts";
export type { RecordRow } from "./take.ts";
