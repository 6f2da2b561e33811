/**
 * Named points of parking and resuming, in the order in which a run passes them: a test stops or kills the worker exactly
 * there. Without `WorkerOptions.onDebugPoint` they are nothing.
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
  "resume.opened",
  "resume.restored",
  "resume.answered",
  "resume.started",
] as const;
export type DebugPoint = (typeof debugPoints)[number];

/** Called at each point; what passes it goes on when the promise resolves, and fails when it rejects. */
export type OnDebugPoint = (point: DebugPoint, runId: string) => void | Promise<void>;
/** The points of one run. */
export type ReachPoint = (point: DebugPoint) => Promise<void>;
