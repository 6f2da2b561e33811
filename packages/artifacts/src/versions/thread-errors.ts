/** Errors on their way between threads: structured cloning would drop their class and fields. */
import { WorkspaceVersionError } from "./errors.ts";
import type { ThreadError } from "./thread-messages.ts";

export function threadError(error: unknown): ThreadError {
  if (!(error instanceof Error)) return { message: String(error) };
  const { message, stack } = error;
  if (!(error instanceof WorkspaceVersionError)) return { message, stack };
  return { message, stack, reason: error.reason, digest: error.digest };
}
