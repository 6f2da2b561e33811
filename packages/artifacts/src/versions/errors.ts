/** Why a version could not be saved, read or restored. `reason` is for decisions, the message for people and the log. */

/**
 * `artifact_missing`, `artifact_corrupt`: of the store (`digest` names it); `not_found`, `is_a_directory`, `not_a_file`: of a path
 * that was asked for; `too_large`: beyond a limit that the message names; `invalid_path`, `invalid_archive`: what was given to
 * be applied; `folder_unusable`: the folder to save or to restore into, or the platform.
 */
export type WorkspaceVersionErrorReason =
  | "artifact_missing"
  | "artifact_corrupt"
  | "not_found"
  | "is_a_directory"
  | "not_a_file"
  | "too_large"
  | "invalid_path"
  | "invalid_archive"
  | "folder_unusable";

export class WorkspaceVersionError extends Error {
  override readonly name = "WorkspaceVersionError";
  readonly reason: WorkspaceVersionErrorReason;
  /** Of the artifact that is missing or corrupt. */
  readonly digest: string | undefined;
  constructor(
    reason: WorkspaceVersionErrorReason,
    message: string,
    options?: ErrorOptions & { digest?: string | undefined },
  ) {
    super(message, options);
    this.reason = reason;
    this.digest = options?.digest;
  }
}

/** The artifact is there and is not what it must be. */
export function corrupt(digest: string, what: string, cause?: unknown): WorkspaceVersionError {
  return new WorkspaceVersionError("artifact_corrupt", `artifact ${digest} of a workspace version: ${what}`, {
    digest,
    cause,
  });
}
