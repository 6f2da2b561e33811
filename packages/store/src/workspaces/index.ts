/** Workspaces: lifecycle.ts says what there is. */
export * from "./change-workspace.ts";
export {
  type CreatedWorkspace,
  type CreateWorkspace,
  createWorkspace,
  type ForkWorkspace,
  forkWorkspace,
} from "./create-workspace.ts";
export { ArtifactsNotReservedError } from "./insert-version.ts";
export type { SavedTree, VersionRow, WorkspaceRow } from "./lifecycle.ts";
export { noteUnsaved } from "./note-unsaved.ts";
export * from "./purge-archived.ts";
export * from "./read-workspaces.ts";
export * from "./record-upload.ts";
export * from "./record-version.ts";
export { isLeaseHeld, releaseReservations, reserveArtifacts, sweepReservations } from "./reservations.ts";
