/** What the library of versions reports, as answers (contract 7.8). */
import { ApiError, codedError } from "@helmr/api";
import { WorkspaceVersionError } from "@helmr/artifacts/versions";
import { ArtifactsNotReservedError } from "@helmr/store";

/** The error to throw instead; anything else is itself. */
export function asVersionAnswer(error: unknown): unknown {
  if (error instanceof ArtifactsNotReservedError) {
    return new ApiError(503, "the upload took so long that a part of it was removed; upload it again");
  }
  if (!(error instanceof WorkspaceVersionError)) return error;
  switch (error.reason) {
    case "artifact_missing":
      return withCause(codedError("workspace_version_artifact_missing"), error);
    case "artifact_corrupt":
      return withCause(codedError("workspace_version_artifact_corrupt"), error);
    case "not_found":
      return new ApiError(404, error.message);
    case "is_a_directory":
    case "not_a_file":
    case "invalid_path":
    case "invalid_archive":
      return new ApiError(400, error.message);
    case "too_large":
      return new ApiError(413, error.message);
    case "folder_unusable":
      return error;
  }
}

/** `asVersionAnswer` of what `work` rejects with. */
export async function withVersionAnswers<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asVersionAnswer(error);
  }
}

function withCause(answer: ApiError, cause: unknown): ApiError {
  answer.cause = cause;
  return answer;
}
