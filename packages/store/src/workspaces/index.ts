/** Workspaces: lifecycle.ts says what there is. */
export { ArtifactsNotReservedError } from "./insert-version.ts";
export type { SavedTree, VersionRow, WorkspaceRow } from "./lifecycle.ts";
export * from "./record-version.ts";
export { isLeaseHeld, releaseReservations, reserveArtifacts, sweepReservations } from "./reservations.ts";
