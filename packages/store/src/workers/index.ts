export {
  type AuthenticatedWorker,
  authenticateWorker,
  revokeCredential,
  rotateCredential,
} from "./credentials.ts";
export { markGoneWorkers, touchWorker, type WorkerReport } from "./heartbeat.ts";
export type { WorkerCapacity, WorkerState } from "./lifecycle.ts";
export { registerWorker, type WorkerRegistration } from "./register.ts";
