/** Live copies of workspaces: see lifecycle.ts. */
export { type ClaimedMaterialization, type ClaimMaterializations, claimMaterializations } from "./claim.ts";
export {
  attachRequested,
  type ExpireMaterializations,
  expireMaterializations,
  noteIdle,
  planIdleStops,
  stopIdle,
  yieldToRuns,
} from "./expire.ts";
export { extendMaterializations } from "./heartbeat.ts";
export type { EndedMaterialization, MaterializationRef, MaterializationRow } from "./lifecycle.ts";
export { noteWaitingForWorkspace } from "./note-waiting.ts";
export {
  acknowledgeCommands,
  bindRunCopies,
  type HeldMaterialization,
  pollWorkspaces,
  type WorkspacePollResult,
} from "./poll.ts";
export { getLiveMaterialization, getMaterialization } from "./read.ts";
export {
  type MaterializationRequest,
  type RequestedMaterialization,
  requestMaterialization,
} from "./request.ts";
export { requestStop, type StopRequest, type StopResult } from "./stop.ts";
export {
  type FinishMaterialization,
  finishMaterialization,
  handBackMaterialization,
  releaseMaterializations,
  startMaterialization,
} from "./worker.ts";
