/**
 * Named points of parking and resuming, of restoring and saving a workspace and of live copies, in the order in which they
 * are passed: a test stops or kills the worker exactly there. Without `WorkerOptions.onDebugPoint` they are nothing.
 */
export const debugPoints = [
  "park.suspended",
  "park.flushed",
  "park.held",
  "park.saved",
  "park.sealed",
  "park.stored",
  "park.recorded",
  "park.guest-gone",
  "resume.leased",
  "resume.prepared",
  "resume.opened",
  "resume.restored",
  "resume.answered",
  "resume.started",
  "workspace.restored",
  "workspace.adopted",
  "save.reserved",
  "save.stored",
  "save.recorded",
  "save.noted",
  "copy.leased",
  "copy.opened",
  "copy.up",
  "copy.started",
  "copy.stopping",
  "copy.saved",
  "copy.finished",
] as const;
export type DebugPoint = (typeof debugPoints)[number];

/** Called at each point; `id` is the run's or the live copy's. What passes it goes on when the promise resolves, and fails when it rejects. */
export type OnDebugPoint = (point: DebugPoint, id: string) => void | Promise<void>;
/** The points of one run or live copy. */
export type ReachPoint = (point: DebugPoint) => Promise<void>;
