/**
 * The workspace's side of one run: its disk, its live copy when somebody asks for one, its saves.
 *
 * | the run is      | the live copy                                                                           |
 * |-----------------|-----------------------------------------------------------------------------------------|
 * | preparing       | is taken when somebody asks, and waits                                                  |
 * | running         | is the run's guest: operators' commands run beside the task                             |
 * | parking         | goes with the guest when nobody works in it; else the guest goes on                     |
 * | over            | what operators run is ended with a grace, then the guest goes, then the files are saved |
 *
 *  R1  The run's end is reported after its files were saved, or could not be; while operators' programs run they get their
 *      grace before.
 *  R2  The files are saved when no process of the run or of an operator changes them any more.
 *  R3  A run is not parked while somebody works in its guest.
 *  R4  A live copy that was let go, because it is to stop or nothing can be reported of it, is not taken again while the control
 *      plane still counts it as live: its numbers would begin anew. Its end is told until it is heard.
 *  R5  While the worker drains, operators are let go, and whoever asks waits for the run to be elsewhere.
 */
import type { RunAssignment } from "@helmr/api";
import type { GuestMessage } from "@helmr/guest-protocol";
import type { Logger } from "pino";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import type { ReachPoint } from "./debug-points.ts";
import { headOf, messageOf } from "./failure.ts";
import { GuestCommands } from "./guest-commands.ts";
import { LiveCopy } from "./live-copy.ts";
import type { LiveWorkspaces } from "./live-workspaces.ts";
import type { SavedFiles } from "./parking.ts";
import type { RunGuest } from "./run-guest.ts";
import { presentIn, secretPaths } from "./secret-paths.ts";
import type { SavedWorkspace, WorkspaceSaver } from "./workspace-saver.ts";
import type { WantedFiles, Workspaces } from "./workspaces.ts";

export interface RunWorkspaceOptions {
  readonly run: RunAssignment;
  readonly client: ControlPlaneClient;
  readonly workspaces: Workspaces;
  readonly saver: WorkspaceSaver;
  readonly live: LiveWorkspaces;
  readonly reach: ReachPoint;
  /** Somebody works in the guest now, or nobody any more. */
  readonly onActivity: () => void;
  /** Gives up the restoring of files. */
  readonly preparing: AbortSignal;
  /** The lease is lost, or the worker stops. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Of a save at the run's end: with their pauses well within a lease. */
const saveTries = 4;
const endReason = "the run whose guest this was has ended, and the guest with it; start it again";
/** `saveTree` names that many of what it skips. */
const maxNamedSkipped = 1000;
const stopReason = "the live copy was stopped";

export class RunWorkspace {
  readonly #options: RunWorkspaceOptions;
  #guest: { readonly guest: RunGuest; readonly commands: GuestCommands } | undefined;
  #startMs: number | undefined;
  #copy: LiveCopy | undefined;
  /** R4: copies that were let go, by their id; calling tells the control plane again. */
  readonly #gone = new Map<string, () => void>();
  #checkpointed: SavedFiles | undefined;
  #isOver = false;
  #isDraining = false;

  constructor(options: RunWorkspaceOptions) {
    this.#options = options;
  }

  /** Which files the run starts with. */
  get files(): WantedFiles {
    const { run, reach, preparing: signal } = this.#options;
    return { base: run.base_version, isHere: run.workspace_is_here, reach, signal };
  }

  /** From now on operators can ask for the run's guest. */
  offer(): void {
    const { live, run } = this.#options;
    live.offer({
      leaseId: run.lease_id,
      attach: (materializationId, fencing) => this.#attach(materializationId, fencing),
    });
  }

  /** The guest is there; commands come when the run's lease is started. */
  use(guest: RunGuest): void {
    this.#guest = { guest, commands: new GuestCommands((message) => guest.session.send(message)) };
  }

  /** The lease is started. */
  started(startMs: number): void {
    this.#startMs = startMs;
    this.#startCopy();
  }

  /** A message of the guest about commands; undefined, or what makes it a violation. */
  receive(message: GuestMessage): string | undefined {
    if (this.#guest === undefined) return `sent ${message.type} before it was asked for anything`;
    return this.#guest.commands.receive(message);
  }

  /** R3 */
  get isBusy(): boolean {
    return (this.#guest?.commands.active ?? 0) > 0;
  }

  /** Save the files of the stopped guest, for the checkpoint of the same instant. */
  async saveForCheckpoint(signal: AbortSignal): Promise<SavedFiles> {
    const guest = this.#guest?.guest;
    if (guest === undefined) throw new Error("the run has no guest");
    const { version, skipped, excluded } = await this.#save({ reason: "checkpoint", isFinal: false, signal });
    const fifos = skipped.filter(({ kind }) => kind === "fifo").map(({ pathBytes }) => pathBytes);
    const leftOut = [...excluded.map((path) => Buffer.from(path)), ...fifos];
    // Not all of them are named: then the archive takes everything.
    const isComplete = skipped.length < maxNamedSkipped;
    this.#checkpointed = {
      version: isComplete ? version : undefined,
      leftOut: await presentIn(guest.disk.mountPoint, leftOut),
    };
    return this.#checkpointed;
  }

  /** The run is parked and its disk unmounted: it stays when it is the version and nothing else. */
  async parked(): Promise<void> {
    const { workspaces, run } = this.#options;
    const { version, leftOut } = this.#checkpointed ?? {};
    if (version !== undefined && leftOut?.trees.length === 0)
      await workspaces.note(run.workspace_id, version, true);
    else await workspaces.remove(run.workspace_id);
  }

  /**
   * The run is over and has the lease still: end operators' programs, end the guest, save. What goes wrong is told by the
   * answer: the run's outcome stands (R1). `isQuiet`: no process of the task is left.
   */
  async close(isQuiet: boolean): Promise<{ readonly unsaved?: string }> {
    const { live, run, logger } = this.#options;
    this.#isOver = true;
    live.withdraw(run.lease_id);
    const copy = this.#takeCopy();
    await copy?.end(endReason, { guestEnds: true });
    const unsaved = await this.#saveAtEnd(isQuiet && copy === undefined).catch((error: unknown) => {
      logger.warn({ reason: messageOf(error) }, "the workspace was not saved");
      return messageOf(error);
    });
    await copy?.finish({ status: "stopped" });
    return unsaved === undefined ? {} : { unsaved };
  }

  /** R5 */
  drain(): void {
    this.#isDraining = true;
    if (this.#copy !== undefined) void this.#stopCopy(this.#copy);
  }

  /** The lease is gone, or will be: nothing is reported. */
  drop(): void {
    const { live, run } = this.#options;
    this.#isOver = true;
    live.withdraw(run.lease_id);
    this.#takeCopy()?.drop();
  }

  async #saveAtEnd(isQuiet: boolean): Promise<string | undefined> {
    const { run } = this.#options;
    const guest = this.#guest?.guest;
    if (guest === undefined) return undefined;
    // The common case costs one look into an empty folder, and the report does not wait for the guest's end.
    if (isQuiet && run.workspace_is_dirty !== true && (await this.#options.saver.isNothingToSave(guest.disk)))
      return undefined;
    await guest.session.destroy(); // R2
    await this.#save({ reason: "run", isFinal: true, tries: saveTries });
    return undefined;
  }

  async #save(options: {
    readonly reason: "run" | "checkpoint" | "request";
    readonly isFinal: boolean;
    readonly requestId?: string;
    readonly tries?: number;
    readonly signal?: AbortSignal;
  }): Promise<SavedWorkspace & { readonly excluded: readonly string[] }> {
    const { run, saver, reach, signal } = this.#options;
    const disk = this.#guest?.guest.disk;
    if (disk === undefined) throw new Error("the run has no guest");
    const placements = run.secrets.map(({ placement }) => placement);
    const excluded = await secretPaths(
      placements,
      run.sandbox.definition.workspace_mount_path,
      disk.mountPoint,
    );
    const saved = await saver.save({
      workspaceId: run.workspace_id,
      disk,
      leaseId: run.lease_id,
      fencing: run.fencing,
      exclude: excluded,
      isDirty: run.workspace_is_dirty === true,
      reach,
      ...options,
      signal: options.signal === undefined ? signal : AbortSignal.any([signal, options.signal]),
    });
    return { ...saved, excluded };
  }

  #attach(materializationId: string, fencing: number): void {
    if (this.#isOver || this.#isDraining) return;
    const tellAgain = this.#gone.get(materializationId);
    if (tellAgain !== undefined) {
      tellAgain();
      return;
    }
    const { client, live, signal, logger, onActivity } = this.#options;
    this.#takeCopy()?.drop();
    const copy = new LiveCopy({
      materializationId,
      fencing,
      client,
      save: async (requestId) => {
        await this.#save({ reason: "request", isFinal: false, requestId });
      },
      onStop: () => void this.#stopCopy(copy),
      onActivity,
      onFailure: (error) => {
        logger.warn({ reason: messageOf(error) }, "the run's live copy is given up");
        if (this.#copy === copy) this.#takeCopy();
        void this.#finish(copy, {
          status: "failed",
          message: headOf(`the live copy was given up: ${messageOf(error)}`, 4000),
          unsaved: false,
        });
        onActivity();
      },
      signal,
      logger,
    });
    this.#copy = copy;
    live.add(copy, {
      onLost: () => {
        if (this.#copy === copy) this.#takeCopy()?.drop();
        onActivity();
      },
    });
    onActivity();
    this.#startCopy();
  }

  /** The guest goes on without what operators ran in it. */
  async #stopCopy(copy: LiveCopy): Promise<void> {
    if (this.#copy === copy) this.#takeCopy();
    this.#gone.set(copy.materializationId, () => undefined);
    await copy.end(stopReason, { guestEnds: false });
    await this.#finish(copy, { status: "stopped" });
    this.#options.onActivity();
  }

  /** R4 */
  async #finish(copy: LiveCopy, outcome: Parameters<LiveCopy["finish"]>[0]): Promise<void> {
    this.#gone.set(copy.materializationId, () => undefined);
    await copy.finish(outcome);
    this.#gone.set(copy.materializationId, () => void this.#finish(copy, outcome));
  }

  #startCopy(): void {
    const { run } = this.#options;
    if (this.#copy === undefined || this.#guest === undefined || this.#startMs === undefined) return;
    const { guest, commands } = this.#guest;
    const mountPath = run.sandbox.definition.workspace_mount_path;
    void this.#copy.start({ commands, mountPath, mountPoint: guest.disk.mountPoint }, this.#startMs);
  }

  #takeCopy(): LiveCopy | undefined {
    const copy = this.#copy;
    this.#copy = undefined;
    if (copy !== undefined) this.#options.live.remove(copy);
    return copy;
  }
}
