/** A run's guest out of its checkpoint: archive opened, workspace and guest restored, the task's answer heard. */
import { readdir } from "node:fs/promises";
import type { Resume, RunAssignment, VersionRef } from "@helmr/api";
import type { GuestMessage } from "@helmr/guest-protocol";
import type { GuestSpec, Isolation } from "@helmr/isolation";
import { execa } from "execa";
import type { Checkpoints } from "./checkpoints.ts";
import type { ReachPoint } from "./debug-points.ts";
import { type GuestSession, restoredGuestSession } from "./guest-session.ts";
import type { OpeningCheckpoint } from "./opening-checkpoint.ts";
import type { GuestKind, RunGuest, RunGuests } from "./run-guest.ts";
import type { HeldCall } from "./saved-state.ts";
import type { DiskSpec, MountedDisk, Workspaces } from "./workspaces.ts";

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
  readonly signal: AbortSignal;
}

/** Measured at 0.2 s; a loaded host takes several. */
const answerLimitMs = 30_000;

/**
 * Resolves to the calls that had no answer when the guest was saved; only then the restore counts. The archive is opened while
 * disk and sandbox are made; both are waited for, and released when either fails.
 */
export async function restoreRunGuest(
  run: RunAssignment,
  resume: Resume,
  kind: GuestKind,
  seams: RestoreSeams,
): Promise<readonly HeldCall[]> {
  const disk = new RestoredDisk(run.workspace_id, resume.workspace_version, seams);
  let calls: readonly HeldCall[] = [];
  let guest: RunGuest;
  try {
    guest = await seams.checkpoints.load(resume.artifact_digest, (archive) =>
      seams.guests.restore(
        kind,
        (spec) => disk.open(spec),
        (spec) =>
          disk.beside(archive, async () => {
            const restored = await restoreFrom(archive, spec, disk, seams);
            calls = restored.calls;
            return restored.session;
          }),
      ),
    );
  } catch (error) {
    await disk.remove(); // The guest's clean-up has unmounted it.
    throw error;
  }
  seams.onGuest(guest);
  await seams.reach("resume.restored");
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

async function restoreFrom(
  archive: OpeningCheckpoint,
  spec: GuestSpec,
  disk: RestoredDisk,
  { isolation, onMessage, reach }: RestoreSeams,
): Promise<{ readonly session: GuestSession; readonly calls: readonly HeldCall[] }> {
  const prepared = await isolation.prepareRestore(spec, archive.memory);
  try {
    await reach("resume.prepared");
    const { record, written, link, calls } = await archive.opened();
    await disk.complete(archive.spare);
    await reach("resume.opened");
    const guest = await prepared.restore({ record, written });
    return { session: restoredGuestSession(guest, link, onMessage), calls };
  } catch (error) {
    await prepared.release();
    throw error;
  }
}

/**
 * The workspace of a restored guest: the disk that is here, when its files are those of the checkpoint's version; else a fresh
 * one, filled with the version while the archive is opened. Without a version all of it is in the archive.
 */
class RestoredDisk {
  readonly #workspaceId: string;
  readonly #version: VersionRef | undefined;
  readonly #seams: RestoreSeams;
  readonly #givenUp = new AbortController();
  #disk: MountedDisk | undefined;
  #filled: Promise<void> | undefined;

  constructor(workspaceId: string, version: VersionRef | undefined, seams: RestoreSeams) {
    this.#workspaceId = workspaceId;
    this.#version = version;
    this.#seams = seams;
  }

  async open(spec: DiskSpec): Promise<MountedDisk> {
    const { workspaces, signal, reach } = this.#seams;
    const wanted = { base: this.#version, isHere: false, signal, reach };
    if (this.#version !== undefined && (await workspaces.holds(this.#workspaceId, wanted)))
      this.#disk = await workspaces.open(this.#workspaceId, spec, wanted);
    else {
      // What is here of the workspace is older than the checkpoint's.
      await workspaces.remove(this.#workspaceId);
      this.#disk = await workspaces.createFresh(spec);
      this.#fill(this.#disk);
    }
    return this.#disk;
  }

  /**
   * Run `restore` with the archive's workspace part going to the disk, when all of the workspace is in it, else beside it. When
   * that fails, nobody writes to the disk any more.
   */
  async beside<T>(archive: OpeningCheckpoint, restore: () => Promise<T>): Promise<T> {
    const whole = this.#version === undefined ? this.#disk?.mountPoint : undefined;
    archive.writeWorkspaceTo(whole ?? archive.spare);
    try {
      return await restore();
    } catch (error) {
      this.#givenUp.abort(error);
      await Promise.all([archive[Symbol.asyncDispose](), this.#filled?.catch(() => undefined)]);
      throw error;
    }
  }

  /** The files are those of the saved instant, and the disk is the workspace's. `leftOut`: what the version is without. */
  async complete(leftOut: string): Promise<void> {
    const { workspaces, reach } = this.#seams;
    const disk = this.#disk;
    if (disk === undefined) throw new Error("the disk is not open");
    await this.#filled;
    // Never through a link that the version has where the archive has a file: it may lead out of the disk.
    if (this.#version !== undefined && (await readdir(leftOut)).length > 0)
      await execa("cp", ["--archive", "--remove-destination", `${leftOut}/.`, disk.mountPoint]);
    if (this.#filled === undefined && this.#version !== undefined) return; // it was here
    if (this.#version !== undefined) await reach("workspace.restored");
    await workspaces.settle(disk, this.#workspaceId, this.#version);
    if (this.#version !== undefined) await reach("workspace.adopted");
  }

  async remove(): Promise<void> {
    const { workspaces } = this.#seams;
    if (this.#disk !== undefined) await workspaces.removeDisk(this.#disk);
    await workspaces.remove(this.#workspaceId);
  }

  #fill(disk: MountedDisk): void {
    if (this.#version === undefined) return;
    const { workspaces, signal } = this.#seams;
    const either = AbortSignal.any([signal, this.#givenUp.signal]);
    this.#filled = workspaces.fill(disk, this.#workspaceId, this.#version, either);
    this.#filled.catch(() => undefined); // Awaited by `complete`, or given up.
  }
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
