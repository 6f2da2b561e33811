/** What the worker's routes share. */
import type { LiveBus } from "@helmr/coordination";
import type {
  Database,
  FinishInput,
  FinishResult,
  SecretCipher,
  StartInput,
  StartResult,
} from "@helmr/store";
import type { ControlMetrics, Tracing } from "@helmr/telemetry";
import type { TokenSecrets } from "../tokens.ts";
import type { WorkspaceSettings } from "../workspace-settings.ts";
import type { Assignments } from "./assignments.ts";
import type { WorkerAuthentication } from "./authenticate.ts";
import type { Batcher } from "./batcher.ts";
import type { WorkGates } from "./work-gate.ts";

export interface WorkerTimings {
  /** A lease not renewed that long is over. */
  readonly leaseDurationMs: number;
  /** Pause of a worker between two heartbeats. */
  readonly heartbeatIntervalMs: number;
  /** A heartbeat is answered that much later when it has nothing to tell, so that a cancel is told at once. */
  readonly heartbeatHoldMs: number;
}

/**
 * The pause and the hold together stay far below the lease: several heartbeats may be lost. Each costs three statements: 10,000
 * workers that hold something are 7,000 a second.
 */
export const defaultTimings: WorkerTimings = {
  leaseDurationMs: 30_000,
  heartbeatIntervalMs: 250,
  heartbeatHoldMs: 4_000,
};

/** For leases of another length: pause and hold shrink with it, so that several heartbeats fit into one. */
export function timingsOfLease(leaseDurationMs: number): WorkerTimings {
  const { heartbeatIntervalMs, heartbeatHoldMs } = defaultTimings;
  return {
    leaseDurationMs,
    heartbeatIntervalMs: Math.min(heartbeatIntervalMs, Math.floor(leaseDurationMs / 20)),
    heartbeatHoldMs: Math.min(heartbeatHoldMs, Math.floor(leaseDurationMs / 5)),
  };
}

export interface WorkerContext {
  readonly db: Database;
  readonly bus: LiveBus;
  readonly cipher: SecretCipher;
  readonly metrics: ControlMetrics;
  readonly tracing: Tracing;
  readonly authentication: WorkerAuthentication;
  readonly assignments: Assignments;
  readonly tokenSecrets: TokenSecrets;
  readonly starts: Batcher<StartInput, StartResult>;
  readonly finishes: Batcher<FinishInput, FinishResult>;
  readonly timings: WorkerTimings;
  readonly gates: WorkGates;
  readonly workspaces: WorkspaceSettings;
  /** Aborts when the server closes. */
  readonly closing: AbortSignal;
}
