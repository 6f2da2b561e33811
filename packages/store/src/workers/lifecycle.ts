/**
 * Workers: registration, credentials, liveness, draining. No code outside of this folder writes a worker's row, but for
 * `claim_seq`, which the claims count up (capacity.ts).
 *
 *   state      enters by                                          leaves by
 *   active     registerWorker; undrainWorker;                     drainWorker, touchWorker (it says that it drains),
 *              touchWorker (gone, it was only out of reach;       markGoneWorkers
 *              or its own drain is over)
 *   draining   drainWorker, touchWorker (its own decision),       undrainWorker, touchWorker (its own drain is over),
 *              registerWorker and touchWorker of one that an      markGoneWorkers
 *              operator drains
 *   gone       markGoneWorkers: no heartbeat for 60 s             registerWorker, touchWorker, removeWorker (no row then)
 *
 *   W1  Of tokens and credentials only the sha256 is stored: both are 32 random bytes, which needs no slow hash.
 *   W2  An operator's drain stays until undrainWorker, through restarts of the worker; its own ends with its process.
 *   W3  A credential is good from its issue until a registration, a revocation, or `credentialOverlapSeconds` after the last
 *       rotation that was asked for with it: whatever answer is lost, the worker has one that is good.
 *   W4  A worker never changes its group: its work was routed there. It goes elsewhere as a new worker, once it is removed.
 *   W5  What a worker holds never exceeds what it registered with (capacity.ts).
 */
import { createHash, randomBytes } from "node:crypto";

export type WorkerState = "active" | "draining" | "gone";

/** What a worker's guests may hold together, of its registration (worker-api.ts); without `slots` nothing is enforced. */
export interface WorkerCapacity {
  readonly runs: number;
  readonly builds: number;
  readonly materializations?: number | undefined;
  readonly cpu: number;
  readonly memory_mib: number;
  readonly disk_mib?: number | undefined;
  readonly slots?: number | undefined;
}

/** A worker out of touch that long is gone: its workspaces' runs may go elsewhere. Twice its lease, so those are over. */
export const workerGoneAfterSeconds = 60;

/** W3. Far longer than a worker retries a request. */
export const credentialOverlapSeconds = 300;

export const hashSecret = (secret: string): Buffer => createHash("sha256").update(secret).digest();

export const newCredential = (): string => `hlmr_wk_${randomBytes(32).toString("base64url")}`;
