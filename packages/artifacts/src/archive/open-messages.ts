/** What the thread that opens an archive and its owner say to each other. The bytes go one way, and are counted back. */
import type { ArchiveErrorReason } from "./errors.ts";
import type { OpenedArchive } from "./open.ts";
import type { OpenJob } from "./open-job.ts";

export type ToOpener =
  | { readonly type: "open"; readonly job: OpenJob }
  | { readonly type: "piece"; readonly bytes: Uint8Array }
  | { readonly type: "end" }
  /** The source has failed: the owner knows with what. */
  | { readonly type: "cut" }
  | { readonly type: "folder"; readonly part: string; readonly path?: string | undefined };

export type FromOpener =
  | { readonly type: "taken"; readonly bytes: number }
  | { readonly type: "folder"; readonly part: string }
  | { readonly type: "done"; readonly opened: OpenedArchive }
  | { readonly type: "failed"; readonly error: OpeningError };

/** Structured cloning would drop class and fields. */
export interface OpeningError {
  readonly message: string;
  readonly reason?: ArchiveErrorReason | undefined;
  readonly code?: string | undefined;
  readonly isRange: boolean;
}
