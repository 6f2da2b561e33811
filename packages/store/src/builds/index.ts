/** Builds of deployments: lifecycle.ts says what there is. */
export * from "./append.ts";
export * from "./claim.ts";
export { type BuildFailure, type BuildOutcome, type BuiltSandboxInput, finishBuild } from "./finish.ts";
export { type BuildRef, buildOfLease, maxBuildAttempts } from "./lifecycle.ts";
export * from "./lose.ts";
