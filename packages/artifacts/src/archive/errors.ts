/** Why an archive could not be opened. `reason` is for decisions, the message for the run's events and the log. */

/**
 * `unknown_key`: sealed under a key that is not configured; `wrong_key`: the key with this id does not open it, or its
 * header was changed; `damaged`: not the bytes that were sealed; `truncated`: its end is missing; `too_large`: more content
 * than allowed; `not_an_archive`: something else, or of a newer format.
 */
export type ArchiveErrorReason =
  | "unknown_key"
  | "wrong_key"
  | "damaged"
  | "truncated"
  | "too_large"
  | "not_an_archive";

export class ArchiveError extends Error {
  override readonly name = "ArchiveError";
  readonly reason: ArchiveErrorReason;
  constructor(reason: ArchiveErrorReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}
