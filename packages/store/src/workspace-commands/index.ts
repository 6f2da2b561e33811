/** Commands and terminals in workspaces: see lifecycle.ts. */
export {
  type AppendedToMaterialization,
  type AppendToMaterialization,
  appendToMaterialization,
} from "./append.ts";
export { type CaptureRequest, noteCapture, type RequestedCapture, requestCapture } from "./capture.ts";
export { type Changed, closePty, closeStdin, killExec, resizePty } from "./change.ts";
export { type ChunkPage, type ChunkRow, noteRead, type OutputStream, readChunks } from "./chunks.ts";
export { type Created, createExec, createPty, type NewExec, type NewPty } from "./create.ts";
export { type WrittenInput, writePtyInput, writeStdin } from "./input.ts";
export {
  type CommandTarget,
  type ExecRow,
  isExecOver,
  isPtyOver,
  type PtyRow,
} from "./lifecycle.ts";
export { type CommandKey, getExec, getPty, listExecs, listPtys } from "./read.ts";
export {
  type AnswerRequest,
  answerRequest,
  askLive,
  expireRequests,
  type LiveAnswer,
  type LiveQuestion,
  takeAnswer,
} from "./requests.ts";
export { removeOldStreams } from "./retention.ts";
