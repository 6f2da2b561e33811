/** What a run is finished with: outcomes of the task and ends of the guest, in the words an author understands. */
import { WorkspaceVersionError } from "@helmr/artifacts/versions";
import type { RunOutcome, TaskError } from "@helmr/guest-protocol";
import type { RunReport } from "./control-plane-client.ts";
import { headOf, messageOf } from "./failure.ts";
import { GuestStartError, type SessionEnd } from "./guest-session.ts";
import { MissingLayerError } from "./image-builder/layer-store.ts";
import { versionFailureCode } from "./version-failure.ts";

const maxMessageLength = 16_000;
/** Kinds that fail again however often they are tried (contract 13.4), and those that only depend on the input. */
const notRetryable = new Set([
  "task_not_found",
  "duplicate_task_id",
  "missing_config",
  "task_parse_failed",
  "payload_invalid",
]);

export function reportOfOutcome(outcome: RunOutcome): RunReport {
  if (outcome.status === "succeeded") {
    return outcome.output_json === undefined
      ? { status: "succeeded" }
      : { status: "succeeded", output_json: outcome.output_json };
  }
  if (outcome.status === "cancelled") return { status: "cancelled", reason: headOf(outcome.reason, 1_000) };
  const { failure_kind, error, exit_code, signal } = outcome;
  return {
    status: "failed",
    failure_kind,
    message: headOf(error.message, maxMessageLength),
    detail: {
      ...boundedError(error, 0),
      ...(exit_code === undefined ? {} : { exit_code }),
      ...(signal === undefined ? {} : { signal: headOf(signal, 32) }),
    },
    ...(exit_code === undefined ? {} : { exit_code }),
    retryable: !notRetryable.has(failure_kind),
  };
}

/** The schema bounds each text; depth is bounded here. */
function boundedError(error: TaskError, depth: number): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  return {
    name,
    message,
    ...(stack === undefined ? {} : { stack }),
    ...(cause === undefined || depth === 5 ? {} : { cause: boundedError(cause, depth + 1) }),
  };
}

/** Why a run is ended from outside of its task. */
export type Stop =
  | { readonly kind: "cancel"; readonly reason: string }
  | { readonly kind: "max_duration" }
  | { readonly kind: "parked" }
  | { readonly kind: "handed_back" }
  | { readonly kind: "abandoned" };

/** Undefined: nothing is reported. */
export function reportOfStop(stop: Stop, limitSeconds: number): RunReport | undefined {
  if (stop.kind === "cancel") return { status: "cancelled", reason: stop.reason };
  if (stop.kind !== "max_duration") return undefined;
  const message = `timeout: the run took longer than its max duration of ${limitSeconds} s; raise maxDuration or make the task end earlier`;
  return {
    status: "failed",
    failure_kind: "max_duration",
    message,
    detail: { name: "MaxDurationError", message, limit_seconds: limitSeconds },
    retryable: true,
  };
}

/** The guest ended before the task's outcome was known. */
export function reportOfEnd(end: SessionEnd, memoryMib: number): RunReport {
  if (end.kind === "violation")
    return failed(
      "worker_failed",
      `guest runtime: the guest was killed because it broke the protocol: ${end.reason}`,
      false,
    );
  switch (end.exit.reason) {
    case "out_of_memory":
      return failed(
        "guest_out_of_memory",
        `task process: killed because the sandbox used more than its ${memoryMib} MiB of memory; raise resources({ memory }) or use less`,
        true,
      );
    case "lost":
      return failed("infra_lost", "guest runtime: the guest was lost on its worker", true);
    case "signalled":
      return failed(
        "worker_failed",
        `guest runtime: the agent was ended by ${end.exit.signal}${tail(end.stderr)}`,
        true,
      );
    case "exited":
      return failed(
        "worker_failed",
        `guest runtime: the agent ended with code ${end.exit.code}${tail(end.stderr)}`,
        true,
      );
  }
}

/** The guest did not come up. */
export function reportOfStartFailure(error: unknown): RunReport {
  const message = messageOf(error);
  if (error instanceof MissingLayerError)
    return failed("worker_failed", `image preparation: ${message}`, false);
  const versionCode = versionFailureCode(error);
  if (versionCode !== undefined)
    return failed("worker_failed", `workspace: ${message}`, false, { code: versionCode });
  if (error instanceof WorkspaceVersionError)
    return failed("worker_failed", `workspace: the files could not be restored: ${message}`, true);
  const known = error instanceof GuestStartError;
  return failed(
    "worker_failed",
    known ? message : `guest runtime: the guest could not be started: ${message}`,
    true,
  );
}

function tail(stderr: string): string {
  return stderr === "" ? "" : `: ${stderr.slice(-2_000)}`;
}

function failed(
  failureKind: string,
  text: string,
  retryable: boolean,
  more: Readonly<Record<string, unknown>> = {},
): RunReport {
  const message = headOf(text, maxMessageLength);
  return {
    status: "failed",
    failure_kind: failureKind,
    message,
    detail: { name: "RunFailed", message, ...more },
    retryable,
  };
}
