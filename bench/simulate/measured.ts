/**
 * Milliseconds of processor time, as `npm run bench -- --only costs` measured them (docs/scaling.md says where and when): control plane,
 * PostgreSQL, Redis, dispatcher.
 */
export const parts = ["control", "postgres", "redis", "dispatcher"] as const;
type Cost = readonly [control: number, postgres: number, redis: number, dispatcher: number];

export const measured = {
  /** POST /sessions: session, workspace, run. */
  start: [0.745, 1.297, 0.007, 0],
  /** Leased among others, and started. */
  lease: [0.166, 0.172, 0.006, 0],
  finish: [0.086, 0.165, 0.006, 0.002],
  /** An append of log lines. */
  log: [0.289, 0.301, 0.009, 0],
  /** A token, a wait for it, and the park. */
  wait: [1.265, 1.515, 0.022, 0],
  /** The token's completion, the lease and the start after it. */
  resume: [0.609, 0.945, 0.017, 0],
  /** Of a worker that holds leases. */
  heartbeat: [0.686, 1.31, 0, 0],
  /** A second of a worker that waits for work. */
  waiting: [0.033, 0.153, 0.007, 0],
  /** Of a schedule, with the session that it starts. */
  fire: [0.011, 2.535, 0.052, 1.783],
} as const satisfies Record<string, Cost>;

export type Operation = keyof typeof measured;
export const operations = Object.keys(measured) as Operation[];
