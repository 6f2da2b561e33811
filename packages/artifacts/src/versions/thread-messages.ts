/** What a version's thread and its owner say to each other. The thread never touches the store: the owner does that for it. */

import type { WorkspaceVersionErrorReason } from "./errors.ts";
import type { RestoreJob, RestoreOutcome } from "./restore-job.ts";
import type { SaveJob, SaveOutcome } from "./save-job.ts";

export type ThreadJob =
  | { readonly kind: "save"; readonly job: SaveJob }
  | { readonly kind: "restore"; readonly job: RestoreJob };
export type ThreadOutcome = SaveOutcome | RestoreOutcome;

export interface ThreadError {
  readonly message: string;
  readonly stack?: string | undefined;
  readonly reason?: WorkspaceVersionErrorReason | undefined;
  readonly digest?: string | undefined;
}

export type ThreadRequest =
  | { readonly type: "fetch"; readonly id: number; readonly digest: string; readonly maxBytes: number }
  | { readonly type: "store"; readonly id: number; readonly digest: string; readonly bytes: Uint8Array }
  | { readonly type: "reserve"; readonly id: number; readonly digests: readonly string[] };

export type FromThread =
  | ThreadRequest
  | { readonly type: "done"; readonly outcome: ThreadOutcome }
  | { readonly type: "failed"; readonly error: ThreadError };

export interface ThreadStart {
  readonly type: "start";
  readonly job: ThreadJob;
  /** Its first number becomes 1 when the work is given up. */
  readonly aborted: Int32Array;
}

export interface ThreadReply {
  readonly type: "reply";
  readonly id: number;
  readonly bytes?: Uint8Array | undefined;
  readonly error?: ThreadError | undefined;
}

export type ToThread = ThreadStart | ThreadReply;
