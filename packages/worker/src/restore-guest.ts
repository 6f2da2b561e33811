/** A run's guest out of its checkpoint: archive opened, workspace and guest restored, the task's answer heard. */
import type { Resume, RunAssignment } from "@helmr/api";
import type { GuestMessage } from "@helmr/guest-protocol";
import type { Isolation } from "@helmr/isolation";
import type { Checkpoints, HeldCall } from "./checkpoints.ts";
import type { ReachPoint } from "./debug-points.ts";
import { restoreGuestSession } from "./guest-session.ts";
import type { GuestKind, RunGuest, RunGuests } from "./run-guest.ts";
import type { Workspaces } from "./workspaces.ts";

export interface RestoreSeams {
  readonly checkpoints: Checkpoints;
  readonly guests: RunGuests;
  readonly workspaces: Workspaces;
  readonly isolation: Isolation;
  readonly onMessage: (message: GuestMessage) => void | Promise<void>;
  /** The guest is there: the caller's to dispose of from now on, whatever follows. */
  readonly onGuest: (guest: RunGuest) => void;
  /** Resolves when the task process has answered `run.restored`, or its end is known. */
  readonly answered: Promise<unknown>;
  readonly reach: ReachPoint;
}

/** Measured at 0.2 s; a loaded host takes several. */
const answerLimitMs = 30_000;

/** Resolves to the calls that had no answer when the guest was saved; only then the restore counts. */
export async function restoreRunGuest(
  run: RunAssignment,
  resume: Resume,
  kind: GuestKind,
  seams: RestoreSeams,
): Promise<readonly HeldCall[]> {
  const { checkpoints, guests, workspaces, isolation, onMessage, reach } = seams;
  // What is here of the workspace is older than the checkpoint's.
  await workspaces.remove(run.workspace_id);
  let calls: readonly HeldCall[] = [];
  const guest = await guests.restore(
    kind,
    (spec) => workspaces.open(run.workspace_id, spec),
    (spec, workspace) =>
      checkpoints.load(resume.artifact_digest, workspace, async (saved, directory) => {
        calls = saved.calls;
        await reach("resume.opened");
        return await restoreGuestSession(isolation, spec, { directory, ...saved }, onMessage);
      }),
  );
  seams.onGuest(guest);
  await reach("resume.restored");
  await guest.session.send({ type: "run.restored" });
  await within(
    answerLimitMs,
    Promise.race([
      seams.answered,
      guest.session.ended.then((end) => {
        throw new Error(`the restored guest ended: ${JSON.stringify(end).slice(0, 500)}`);
      }),
    ]),
  );
  return calls;
}

async function within(limitMs: number, promise: Promise<unknown>): Promise<void> {
  const { promise: limit, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new Error(`the restored task did not answer within ${limitMs} ms`)),
    limitMs,
  );
  try {
    await Promise.race([promise, limit]);
  } finally {
    clearTimeout(timer);
  }
}
