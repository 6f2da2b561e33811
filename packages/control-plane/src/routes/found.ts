/** What is not in the caller's environment does not exist for it: 404, never 403. */
import { ApiError } from "@helmr/api";

/** The value, or ApiError 404 `<what> not found`. */
export function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new ApiError(404, `${what} not found`);
  return value;
}
