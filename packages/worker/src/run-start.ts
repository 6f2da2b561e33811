/** The message that starts a run in its guest. */
import type { RunAssignment } from "@helmr/api";
import { guestPaths, type SecretPlacement, type WorkerMessage } from "@helmr/guest-protocol";

/** `traceparent`: what the task's own spans have as their parent, in its environment as TRACEPARENT. */
export function startMessage(run: RunAssignment, traceparent: string): WorkerMessage {
  return {
    type: "run.start",
    run: {
      id: run.run_id,
      attempt_id: run.attempt_id,
      attempt_number: run.attempt_number,
      run_lease_id: run.lease_id,
    },
    session_id: run.session_id,
    task: run.task,
    payload_json: run.payload_json,
    metadata_json: run.metadata_json,
    env: { ...run.sandbox.image.env, TRACEPARENT: traceparent },
    secrets: run.secrets.map(
      ({ placement, value }): SecretPlacement =>
        placement.kind === "env"
          ? { ...placement, value }
          : { ...placement, mode: Number.parseInt(placement.mode, 8), value },
    ),
    workspace_path: run.sandbox.definition.workspace_mount_path,
    source_root: guestPaths.taskSource,
  };
}
