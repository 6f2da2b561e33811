/**
 * Messages between agent and task host: JSON in length-prefixed frames on the task process's file descriptor 3.
 *
 * The task's own code lives in the same process and can write there, so the agent validates what it reads
 * (agent/host-channel.ts). The schemas of that are apart, so that the task host starts without a validator.
 */
import type {
  CallMethod,
  CallResult,
  MetadataOperation,
  RunOutcome,
  WorkerMessage,
} from "@helmr/guest-protocol";

export type RunStart = Extract<WorkerMessage, { type: "run.start" }>;

/** Agent to task host. `env` is complete: nothing of the host's own environment stays. */
export type ToHost =
  | (Omit<RunStart, "secrets"> & { readonly type: "run.start" })
  | { readonly type: "run.cancel"; readonly reason: string }
  | { readonly type: "call.result"; readonly call_id: number; readonly result: CallResult }
  | { readonly type: "run.restored" };

/** Task host to agent. */
export type FromHost =
  | { readonly type: "ready" }
  | { readonly type: "run.started"; readonly at_ms: number }
  | { readonly type: "metadata"; readonly operation: MetadataOperation }
  | {
      readonly type: "call";
      readonly call_id: number;
      readonly method: CallMethod;
      readonly params_json: string;
    }
  | { readonly type: "run.finished"; readonly outcome: RunOutcome }
  | { readonly type: "run.restored"; readonly randomness_problem?: string | undefined };

/** Indexer to agent. `loading` says which file is being loaded, for the case that it ends the process. */
export type FromIndexer =
  | { readonly type: "loading"; readonly file: string }
  | { readonly type: "index.finished"; readonly catalog_json: string }
  | { readonly type: "index.failed"; readonly failure_kind: string; readonly problems: readonly string[] };

export const hostChannelFd = 3;
