/**
 * Executes one live copy of a workspace in a guest of its own: leased, brought up, used, saved, ended.
 *
 * | phase    | enters by                               | leaves by                                                      |
 * |----------|-----------------------------------------|----------------------------------------------------------------|
 * | opening  | lease                                   | disk mounted and guest up -> live; failed -> finished (failed) |
 * |          |                                         | drain -> given back                                            |
 * | live     | guest up, told to the control plane     | stop, drain, end of the guest -> stopping                      |
 * | stopping | see above                               | programs ended, guest gone, files saved or not -> finished     |
 * | finished | its end is told                         | never                                                          |
 * | lost     | lease lost, or the worker stops at once | never: guest killed, nothing told                              |
 *
 *  M1  Nothing is told after the lease was lost, and the changes of then are no workspace's files.
 *  M2  The files are saved when the guest is gone: nothing changes them meanwhile.
 *  M3  What cannot be saved stays on the disk, and the end says so.
 *  M4  The guest is destroyed and its disk unmounted before the workspace is free for the next run.
 *  M5  While the worker drains, a copy that is not up is given back: another worker takes it, and nobody is told of an end.
 */
import type { MaterializationAssignment } from "@helmr/api";
import type { Logger } from "pino";
import { type ControlPlaneClient, LeaseLostError } from "./control-plane-client.ts";
import type { OnDebugPoint, ReachPoint } from "./debug-points.ts";
import { headOf, messageOf } from "./failure.ts";
import { GuestCommands, isCommandMessage } from "./guest-commands.ts";
import type { SessionEnd } from "./guest-session.ts";
import type { Heartbeats } from "./heartbeats.ts";
import type { HeldCopy } from "./held-work.ts";
import { MissingLayerError } from "./image-builder/layer-store.ts";
import { LiveCopy } from "./live-copy.ts";
import type { LiveWorkspaces } from "./live-workspaces.ts";
import { copyKind, type RunGuest, type RunGuests } from "./run-guest.ts";
import { reportOfEnd } from "./run-report.ts";
import { versionFailureCode } from "./version-failure.ts";
import type { WorkspaceSaver } from "./workspace-saver.ts";
import type { MountedDisk, Workspaces } from "./workspaces.ts";

export interface MaterializationExecutorOptions {
  readonly client: ControlPlaneClient;
  readonly heartbeats: Heartbeats;
  readonly guests: RunGuests;
  readonly workspaces: Workspaces;
  readonly saver: WorkspaceSaver;
  readonly live: LiveWorkspaces;
  readonly onDebugPoint: OnDebugPoint;
  readonly logger: Logger;
}

type Outcome = Parameters<LiveCopy["finish"]>[0];

/** Why it goes, and what those who work in it are told. */
type End =
  | { readonly kind: "stop"; readonly reason: string }
  | { readonly kind: "guest"; readonly end: SessionEnd }
  | { readonly kind: "lost" };

const saveTries = 4;

export class MaterializationExecutor {
  readonly #options: MaterializationExecutorOptions;
  readonly #copies = new Set<Materialization>();
  #drainReason: string | undefined;
  #saved = 0;
  #unsaved = 0;

  constructor(options: MaterializationExecutorOptions) {
    this.#options = options;
  }

  /** To its end, whatever happens; never rejects for reasons of the copy. `signal`: the worker stops now. */
  async execute(assignment: MaterializationAssignment, signal: AbortSignal): Promise<void> {
    const copy = new Materialization(assignment, this.#options, signal);
    this.#copies.add(copy);
    if (this.#drainReason !== undefined) copy.drain(this.#drainReason);
    try {
      await copy.run();
    } finally {
      this.#copies.delete(copy);
      if (copy.isSaved === true) this.#saved += 1;
      else if (copy.isSaved === false) this.#unsaved += 1;
    }
  }

  /** Copies at work here. */
  get held(): HeldCopy[] {
    return Array.from(this.#copies, (copy) => copy.held);
  }

  /** Copies that ended here with their files saved, and without, since the start. */
  get ends(): { readonly saved: number; readonly unsaved: number } {
    return { saved: this.#saved, unsaved: this.#unsaved };
  }

  /** Copies that come from now on stay. */
  undrain(): void {
    this.#drainReason = undefined;
  }

  /** Every copy goes now, with its files saved; and so does each that comes. */
  drain(reason: string): void {
    this.#drainReason = reason;
    for (const copy of this.#copies) copy.drain(reason);
  }
}

class Materialization {
  readonly #assignment: MaterializationAssignment;
  readonly #options: MaterializationExecutorOptions;
  readonly #logger: Logger;
  readonly #reach: ReachPoint;
  readonly #copy: LiveCopy;
  /** Aborts the guest's start. */
  readonly #preparation = new AbortController();
  /** Aborts reports (M1). */
  readonly #abandoned = new AbortController();
  readonly #ended = Promise.withResolvers<End>();
  readonly #leasedAt = performance.now();
  #phase: HeldCopy["phase"] = "opening";
  #isDrained = false;
  /** Undefined: it never came up, or was lost. */
  isSaved: boolean | undefined;
  #disk: MountedDisk | undefined;

  constructor(
    assignment: MaterializationAssignment,
    options: MaterializationExecutorOptions,
    workerStops: AbortSignal,
  ) {
    this.#assignment = assignment;
    this.#options = options;
    const { materialization_id: id, fencing, workspace_id: workspaceId } = assignment;
    this.#logger = options.logger.child({ materialization_id: id, workspace_id: workspaceId });
    this.#reach = async (point) => options.onDebugPoint(point, id);
    this.#copy = new LiveCopy({
      materializationId: id,
      fencing,
      client: options.client,
      save: async (requestId) => {
        await this.#save({ reason: "request", requestId, isFinal: false, tries: 1 });
      },
      onStop: () => this.stop("the live copy was stopped"),
      onActivity: () => undefined,
      onFailure: (error) => this.#lose(messageOf(error)),
      signal: this.#abandoned.signal,
      logger: this.#logger,
    });
    workerStops.addEventListener("abort", () => this.#lose("the worker stops"), { once: true });
  }

  async run(): Promise<void> {
    const { heartbeats, workspaces, live } = this.#options;
    const { lease_id: leaseId, fencing, workspace_id: workspaceId } = this.#assignment;
    heartbeats.hold({
      leaseId,
      fencing,
      durationMs: this.#assignment.lease_duration_ms,
      onLost: () => this.#lose("the lease is lost"),
      onCancel: () => undefined,
    });
    live.add(this.#copy, { onLost: () => this.#lose("the live copy was ended") });
    try {
      await workspaces.use(workspaceId, () => this.#work());
    } catch (error) {
      this.#logger.error({ reason: messageOf(error) }, "a live copy failed");
    } finally {
      live.remove(this.#copy);
      heartbeats.release(leaseId);
    }
  }

  /** It goes now; the first reason counts. */
  stop(reason: string): void {
    this.#ended.resolve({ kind: "stop", reason });
    this.#preparation.abort(new Error(reason));
  }

  /** The worker drains: it goes now. */
  drain(reason: string): void {
    this.#isDrained = true;
    this.stop(reason);
  }

  get held(): HeldCopy {
    return {
      materializationId: this.#assignment.materialization_id,
      workspaceId: this.#assignment.workspace_id,
      phase: this.#phase,
      ageMs: Math.round(performance.now() - this.#leasedAt),
    };
  }

  /** M1 */
  #lose(reason: string): void {
    if (this.#abandoned.signal.aborted) return;
    this.#logger.warn({ reason }, "a live copy is lost");
    this.#abandoned.abort(new Error(reason));
    this.#preparation.abort(new Error(reason));
    this.#copy.drop();
    this.#ended.resolve({ kind: "lost" });
  }

  async #work(): Promise<void> {
    const guest = await this.#start();
    if (guest === undefined) return;
    try {
      await this.#useAndEnd(guest);
    } finally {
      await guest.dispose(); // M4
      if (this.#abandoned.signal.aborted) await this.#forgetChanges();
    }
  }

  /** Undefined: it was told why not. */
  async #start(): Promise<RunGuest | undefined> {
    const { guests, workspaces } = this.#options;
    const { workspace_id: workspaceId, base_version: base, workspace_is_here: isHere } = this.#assignment;
    const { signal } = this.#preparation;
    const files = { base, isHere: isHere === true, reach: this.#reach, signal };
    try {
      await this.#reach("copy.leased");
      signal.throwIfAborted();
      const guest = await guests.start(
        copyKind(this.#assignment),
        async (spec) => {
          const disk = await workspaces.open(workspaceId, spec, files);
          this.#disk = disk;
          await this.#reach("copy.opened");
          return disk;
        },
        signal,
      );
      await this.#reach("copy.up");
      return guest;
    } catch (error) {
      if (!this.#abandoned.signal.aborted) await this.#finishUnstarted(error);
      return undefined;
    }
  }

  async #finishUnstarted(error: unknown): Promise<void> {
    const isAsked = this.#preparation.signal.aborted;
    if (this.#isDrained && isAsked) return await this.#giveBack();
    const text = messageOf(error);
    if (!isAsked) this.#logger.warn({ reason: text }, "a live copy did not start");
    this.#options.live.remove(this.#copy);
    await this.#copy.end(text, { guestEnds: true });
    await this.#copy.finish(isAsked ? { status: "stopped" } : failureOf(error));
  }

  /** M5: until the copy is up the control plane keeps the commands for it. */
  async #giveBack(): Promise<void> {
    const { client, live } = this.#options;
    const { lease_id: leaseId, fencing } = this.#assignment;
    live.remove(this.#copy);
    this.#copy.drop();
    try {
      const request = { fencing, reason: "worker_drained" } as const;
      await client.handBack(leaseId, request, this.#abandoned.signal);
    } catch (error) {
      // Then it is lost in time.
      this.#logger.warn({ reason: messageOf(error) }, "a live copy could not be given back");
    }
  }

  async #useAndEnd(guest: RunGuest): Promise<void> {
    const commands = new GuestCommands((message) => guest.session.send(message));
    guest.session.listen((message) => {
      const violation = isCommandMessage(message)
        ? commands.receive(message)
        : `sent ${message.type} in a guest without a task`;
      if (violation !== undefined)
        this.#ended.resolve({ kind: "guest", end: { kind: "violation", reason: violation } });
    });
    void guest.session.ended.then((end) => this.#ended.resolve({ kind: "guest", end }));
    const { workspace_mount_path: mountPath } = this.#assignment.sandbox.definition;
    await this.#copy.start({ commands, mountPath, mountPoint: guest.disk.mountPoint }, guest.startMs);
    await this.#reach("copy.started");
    this.#phase = "live";
    const end = await this.#ended.promise;
    if (end.kind === "lost") {
      commands.closeAll("the live copy is lost");
      return;
    }
    this.#options.live.remove(this.#copy);
    this.#phase = "stopping";
    await this.#reach("copy.stopping");
    await this.#stopped(guest, commands, end);
  }

  async #stopped(
    guest: RunGuest,
    commands: GuestCommands,
    end: Exclude<End, { kind: "lost" }>,
  ): Promise<void> {
    const memoryMib = this.#assignment.sandbox.definition.resources.memory_mib;
    const report = end.kind === "guest" ? reportOfEnd(end.end, memoryMib) : undefined;
    const failure = report?.status === "failed" ? report.message : undefined;
    const reason = end.kind === "guest" ? (failure ?? "the guest ended") : end.reason;
    if (end.kind === "guest") commands.closeAll(reason);
    await this.#copy.end(reason, { guestEnds: true });
    await guest.session.destroy(); // M2
    const unsaved = await this.#saveAtEnd();
    if (this.#abandoned.signal.aborted) return;
    this.isSaved = unsaved === undefined;
    await this.#reach("copy.saved");
    await this.#copy.finish(outcomeOf(failure, unsaved));
    await this.#reach("copy.finished");
  }

  /** M3: why it could not be saved. */
  async #saveAtEnd(): Promise<string | undefined> {
    try {
      await this.#save({ reason: "stop", isFinal: true, tries: saveTries });
      return undefined;
    } catch (error) {
      if (error instanceof LeaseLostError) this.#lose("the lease is lost");
      this.#logger.warn({ reason: messageOf(error) }, "the workspace was not saved");
      return messageOf(error);
    }
  }

  async #save(options: {
    readonly reason: "stop" | "request";
    readonly requestId?: string;
    readonly isFinal: boolean;
    readonly tries: number;
  }): Promise<void> {
    const {
      workspace_id: workspaceId,
      lease_id: leaseId,
      fencing,
      workspace_is_dirty: isDirty,
    } = this.#assignment;
    const disk = this.#disk;
    if (disk === undefined) throw new Error("the live copy is not up yet");
    await this.#options.saver.save({
      workspaceId,
      disk,
      leaseId,
      fencing,
      exclude: [],
      isDirty: isDirty === true,
      reach: this.#reach,
      signal: this.#abandoned.signal,
      ...options,
    });
  }

  /** M1 */
  async #forgetChanges(): Promise<void> {
    const { workspaces } = this.#options;
    const { workspace_id: workspaceId } = this.#assignment;
    if (!(await workspaces.isClean(workspaceId))) await workspaces.remove(workspaceId);
  }
}

function outcomeOf(failure: string | undefined, unsaved: string | undefined): Outcome {
  if (unsaved !== undefined) {
    const message = `the files could not be saved: ${unsaved}`;
    return { status: "failed", message: headOf(message, 4000), unsaved: true };
  }
  if (failure !== undefined) return { status: "failed", message: headOf(failure, 4000), unsaved: false };
  return { status: "stopped" };
}

function failureOf(error: unknown): Outcome {
  const code =
    versionFailureCode(error) ??
    (error instanceof MissingLayerError ? "deployment_sandbox_artifact_missing" : undefined);
  return {
    status: "failed",
    ...(code === undefined ? {} : { code }),
    message: headOf(messageOf(error), 4000),
    unsaved: false,
  };
}
