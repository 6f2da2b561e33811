/** @helmr/worker: leases runs and builds from a control plane and executes them in guests. */
export type { PoolOptions, WorkerCapacity, WorkerOptions } from "./options.ts";
export { createWorker, type Worker } from "./worker.ts";
