export {
  type AuthenticatedWorker,
  authenticateWorker,
  rotateCredential,
} from "./credentials.ts";
export { markGoneWorkers, touchWorker, type WorkerReport } from "./heartbeat.ts";
export type { WorkerCapacity, WorkerState } from "./lifecycle.ts";
export { type NoteWaiting, noteWaitingForCapacity, type WaitingReason } from "./note-waiting.ts";
export { drainWorker, removeWorker, revokeCredential, undrainWorker } from "./operate.ts";
export { getWorker, listWorkers, type WorkerRow } from "./read.ts";
export { registerWorker, type WorkerRegistration } from "./register.ts";
