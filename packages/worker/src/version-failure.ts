/** Saved versions that cannot be restored, as the wire and the authors know them. */
import { WorkspaceVersionError } from "@helmr/artifacts/versions";

/** The version itself is bad, or gone: it can be restored nowhere. */
export function isVersionBroken(error: unknown): error is WorkspaceVersionError {
  return (
    error instanceof WorkspaceVersionError &&
    (error.reason === "artifact_missing" || error.reason === "artifact_corrupt")
  );
}

/** The code of contract 7.8, when it is one of those. */
export function versionFailureCode(error: unknown): string | undefined {
  return isVersionBroken(error) ? `workspace_version_${error.reason}` : undefined;
}
