/**
 * Milliseconds of processor time, as `npm run bench -- --only costs` measured them (docs/scaling.md says where and when): control plane,
 * PostgreSQL, Redis, dispatcher.
 */
export const parts = ["control", "postgres", "redis", "dispatcher"] as const;
type Cost = readonly [control: number, postgres: number, redis: number, dispatcher: number];

export const measured = {
  /** POST /sessions: session, workspace, run. */
  start: [2.456, 1.922, 0.004, 0],
  /** Leased among others, and started. */
  lease: [0.781, 0.49, 0, 0],
  finish: [0.49, 0.295, 0, 0],
  /** An append of log lines. */
  log: [1.201, 0.738, 0.001, 0],
  /** A token, a wait for it, and the park. */
  wait: [4.403, 2.781, 0.036, 0],
  /** The token's completion, the lease and the start after it. */
  resume: [2.143, 2.039, 0, 0],
  /** Of a worker that holds leases. */
  heartbeat: [1.083, 1.233, 0.056, 0],
  /** A second of a worker that waits for work. */
  waiting: [0.066, 0.183, 0, 0],
  /** Of a schedule, with the session that it starts. */
  fire: [0.01, 2.941, 0.04, 2.382],
} as const satisfies Record<string, Cost>;

export type Operation = keyof typeof measured;
export const operations = Object.keys(measured) as Operation[];
