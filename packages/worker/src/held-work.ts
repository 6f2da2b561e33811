/** What a worker holds, for its status: ids, states and ages, never what is in it. */

export type RunPhase = "preparing" | "running" | "waiting" | "parking" | "stopping" | "ending";

export interface HeldRun {
  readonly runId: string;
  readonly phase: RunPhase;
  /** Since it was leased. */
  readonly ageMs: number;
}

export interface HeldBuild {
  readonly deploymentId: string;
  readonly ageMs: number;
}

export interface HeldCopy {
  readonly materializationId: string;
  readonly workspaceId: string;
  readonly phase: "opening" | "live" | "stopping";
  readonly ageMs: number;
}

/** How the run's stay on this worker ended. */
export type RunEnd = "finished" | "parked" | "handed_back" | "lost";
