/** How long the store is waited for. Tests shorten them. */
export interface S3Limits {
  /** Until a connection is there. */
  readonly connectMs: number;
  /** Without a byte on a connection that has a request. */
  readonly idleMs: number;
  /** Of one request with its retries: a part of 16 MiB over a slow line is the longest. Reading a body is not counted. */
  readonly requestMs: number;
  /** Tries of a request, and of going on with a body that was cut. */
  readonly attempts: number;
  /** The longest pause between two tries. */
  readonly maxPauseMs: number;
  /** Connections of a process; requests beyond them wait. */
  readonly sockets: number;
  /** Larger objects go in parts of this size. */
  readonly partBytes: number;
  /** Of one object at once, so that a `put` holds `partBytes` times as many bytes in memory. */
  readonly parallelParts: number;
}

export const defaultLimits: S3Limits = {
  connectMs: 3_000,
  idleMs: 20_000,
  requestMs: 5 * 60_000,
  // With the pauses below 13 to 26 seconds: a server that is started anew is back by then.
  attempts: 10,
  maxPauseMs: 5_000,
  sockets: 50,
  partBytes: 8 << 20,
  parallelParts: 4,
};

const firstPauseMs = 200;

/** Before try `attempt` (from 2): doubled each time, half of it random, so that many that failed together come back apart. */
export function pauseMs(attempt: number, { maxPauseMs }: S3Limits): number {
  const most = Math.min(maxPauseMs, firstPauseMs * 2 ** (attempt - 2));
  return most / 2 + (Math.random() * most) / 2;
}
