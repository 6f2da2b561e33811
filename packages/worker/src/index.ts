/** @helmr/worker: leases runs and builds from a control plane and executes them in guests. */
export { type DebugPoint, debugPoints, type OnDebugPoint } from "./debug-points.ts";
export type { PoolOptions, WorkerCapacity, WorkerOptions } from "./options.ts";
export { createWorker, type Worker } from "./worker.ts";
