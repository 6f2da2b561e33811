/**
 * Executes one leased run: guest, start, logs, limits, outcome, clean-up.
 *
 * | phase     | enters by                     | leaves by                                                  |
 * |-----------|-------------------------------|------------------------------------------------------------|
 * | preparing | lease                         | guest up or restored -> running; cancel, failure -> reporting |
 * | running   | `run.start` sent, or the      | first of: outcome, end of the guest, kill -> reporting;    |
 * |           | restored guest has answered   | saved while it waits (parking.ts) -> parked                |
 * | stopping  | cancel or time limit          | outcome, end of the guest, grace over -> reporting         |
 * | reporting | outcome decided               | files saved, appends flushed, finish accepted -> done      |
 * | parked    | the checkpoint is recorded    | guest removed, nothing reported -> done                    |
 * | handed    | the worker's time to drain is | guest killed, lease given back -> done                     |
 * | back      | over (before the outcome)     |                                                            |
 * | abandoned | lease lost (from any)         | guest killed, nothing reported -> done                     |
 *
 *  I1  Nothing is reported after the lease was lost.
 *  I2  Appends are sent only after the start was accepted; the finish only after every append.
 *  I3  The guest is destroyed and its disk unmounted before the workspace is free for the next run.
 *  I4  Secret values go to the guest and nowhere else: failures are redacted before they are reported (redact.ts).
 *  I6  The outcome is reported after the workspace's files were saved, or could not be (run-workspace.ts).
 *  I5  Of what the task asks (run-calls.ts) nothing is asked before the start was accepted, and nothing answered after the end.
 *  I7  A lease is given back when the guest is gone: no two guests work for one run.
 */
import type { Resume, RunAssignment } from "@helmr/api";
import { type CallResult, type GuestMessage, limits, type RunOutcome } from "@helmr/guest-protocol";
import type { Isolation, IsolationCapabilities } from "@helmr/isolation";
import { runTrace, type Tracing, type WorkerMetrics } from "@helmr/telemetry";
import type { Logger } from "pino";
import { AppendQueue } from "./append-queue.ts";
import { type Checkpoints, isPermanent } from "./checkpoints.ts";
import { type ControlPlaneClient, LeaseLostError, type RunReport } from "./control-plane-client.ts";
import type { OnDebugPoint, ReachPoint } from "./debug-points.ts";
import { messageOf } from "./failure.ts";
import { isCommandMessage } from "./guest-commands.ts";
import type { GuestPool } from "./guest-pool.ts";
import { checkedJson, type SessionEnd } from "./guest-session.ts";
import type { Heartbeats } from "./heartbeats.ts";
import type { HeldRun, RunEnd, RunPhase } from "./held-work.ts";
import type { LiveWorkspaces } from "./live-workspaces.ts";
import { Parking } from "./parking.ts";
import { Redactor } from "./redact.ts";
import { restoreRunGuest } from "./restore-guest.ts";
import { RunCalls } from "./run-calls.ts";
import { type GuestKind, guestKind, type RunGuest, type RunGuests } from "./run-guest.ts";
import { RunObserver } from "./run-observer.ts";
import { reportOfEnd, reportOfOutcome, reportOfStartFailure, reportOfStop, type Stop } from "./run-report.ts";
import { startMessage } from "./run-start.ts";
import { RunWorkspace } from "./run-workspace.ts";
import type { HeldCall } from "./saved-state.ts";
import type { WaitPoller } from "./wait-poller.ts";
import type { WorkspaceSaver } from "./workspace-saver.ts";
import type { Workspaces } from "./workspaces.ts";

export interface RunExecutorOptions {
  readonly client: ControlPlaneClient;
  readonly heartbeats: Heartbeats;
  readonly waits: WaitPoller;
  readonly guests: RunGuests;
  readonly pool: GuestPool;
  readonly workspaces: Workspaces;
  readonly saver: WorkspaceSaver;
  readonly live: LiveWorkspaces;
  readonly isolation: Isolation;
  /** Absent: waiting runs keep their guests. */
  readonly checkpoints: Checkpoints | undefined;
  readonly parkAfterMs: number;
  readonly onDebugPoint: OnDebugPoint;
  readonly capabilities: IsolationCapabilities;
  readonly cancelGraceMs: number;
  readonly metrics: WorkerMetrics;
  readonly tracing: Tracing;
  readonly logger: Logger;
}

export class RunExecutor {
  readonly #options: RunExecutorOptions;
  readonly #executions = new Set<Execution>();
  readonly #ends: Record<RunEnd, number> = { finished: 0, parked: 0, handed_back: 0, lost: 0 };
  #isDraining = false;

  constructor(options: RunExecutorOptions) {
    this.#options = options;
  }

  /** Runs to the end, whatever happens; never rejects for reasons of the run. `signal`: the worker stops now. */
  async execute(run: RunAssignment, signal: AbortSignal): Promise<void> {
    const execution = new Execution(run, this.#options, signal);
    this.#executions.add(execution);
    if (this.#isDraining) execution.drain();
    try {
      await execution.run();
    } finally {
      this.#executions.delete(execution);
      this.#ends[execution.end] += 1;
    }
  }

  /** Runs at work here. */
  get held(): HeldRun[] {
    return Array.from(this.#executions, (execution) => execution.held);
  }

  /** How runs' stays here ended, since the start. */
  get ends(): Readonly<Record<RunEnd, number>> {
    return { ...this.#ends };
  }

  /** From now on runs that wait are parked at once, and operators are let go. */
  drain(): void {
    this.#isDraining = true;
    for (const execution of this.#executions) execution.drain();
  }

  /** Runs that come from now on may wait here again. */
  undrain(): void {
    this.#isDraining = false;
  }

  /** Whatever has no outcome yet is ended here and goes on elsewhere. */
  handBack(): void {
    for (const execution of this.#executions) execution.handBack();
  }
}

class Execution {
  readonly #run: RunAssignment;
  readonly #options: RunExecutorOptions;
  readonly #kind: GuestKind;
  readonly #logger: Logger;
  readonly #observer: RunObserver;
  readonly #queue: AppendQueue;
  /** Aborts a guest's start. */
  readonly #preparation = new AbortController();
  /** Aborts reports: the lease is lost or the worker stops (I1). */
  readonly #abandoned = new AbortController();
  readonly #decided = Promise.withResolvers<RunReport | undefined>();
  #isDecided = false;
  #stop: Stop | undefined;
  #guest: RunGuest | undefined;
  readonly #redactor: Redactor;
  readonly #calls: RunCalls;
  readonly #parking: Parking | undefined;
  readonly #reach: ReachPoint;
  readonly #workspace: RunWorkspace;
  /** `run.finished` came: no process of the task is left in the guest. */
  #isTaskOver = false;
  /** What the run changed in its workspace is on this worker's disk alone. */
  #isUnsaved = false;
  /** The start was accepted. */
  #isStarted = false;
  /** The control plane has taken the outcome, or the lease: that heartbeats do not know it any more is no loss. */
  #settled: RunEnd | undefined;
  /** The outcome is on its way. */
  #isReporting = false;
  readonly #leasedAt = performance.now();
  readonly #restored = Promise.withResolvers<void>();
  #timers: NodeJS.Timeout[] = [];

  constructor(run: RunAssignment, options: RunExecutorOptions, workerStops: AbortSignal) {
    this.#run = run;
    this.#options = options;
    this.#kind = guestKind(run);
    this.#redactor = new Redactor(run.secrets.map(({ placement, value }) => [placement.name, value]));
    this.#logger = options.logger.child({
      run_id: run.run_id,
      session_id: run.session_id,
      lease_id: run.lease_id,
      environment_id: run.environment_id,
      trace_id: runTrace(run.run_id, run.traceparent).traceId,
    });
    this.#observer = new RunObserver(run, options.metrics, options.tracing);
    this.#queue = new AppendQueue({
      send: (items) => options.client.append(run.lease_id, run.fencing, items, this.#abandoned.signal),
      onFailure: (error) => this.#onReportFailure(error),
    });
    this.#calls = new RunCalls({
      leaseId: run.lease_id,
      fencing: run.fencing,
      client: options.client,
      waits: options.waits,
      answer: (callId, result) => this.#answer(callId, result),
      onFailure: (error) => this.#onReportFailure(error),
      onWait: (wait) => {
        this.#observer.waits(wait);
        this.#parking?.onWait(wait);
      },
      signal: this.#abandoned.signal,
    });
    this.#reach = async (point) => {
      this.#observer.reached(point);
      await options.onDebugPoint(point, run.run_id);
    };
    this.#workspace = new RunWorkspace({
      run,
      client: options.client,
      workspaces: options.workspaces,
      saver: options.saver,
      live: options.live,
      reach: this.#reach,
      onActivity: () => this.#parking?.onActivity(),
      preparing: this.#preparation.signal,
      signal: this.#abandoned.signal,
      logger: this.#logger,
    });
    this.#parking = this.#newParking(options);
    this.#restored.promise.catch(() => undefined);
    workerStops.addEventListener("abort", () => this.#abandon(), { once: true });
  }

  async run(): Promise<void> {
    const { heartbeats, workspaces } = this.#options;
    heartbeats.hold({
      leaseId: this.#run.lease_id,
      fencing: this.#run.fencing,
      onLost: () => this.#abandon(),
      onCancel: (request) => this.#cancel(request.reason, request.force),
    });
    try {
      await workspaces.use(this.#run.workspace_id, () => this.#runOnWorkspace());
    } catch (error) {
      this.#logger.error({ reason: messageOf(error) }, "run execution failed");
    } finally {
      for (const timer of this.#timers) clearTimeout(timer);
      this.#observer.ended(this.end);
      heartbeats.release(this.#run.lease_id);
    }
  }

  get held(): HeldRun {
    return {
      runId: this.#run.run_id,
      phase: this.#phase(),
      ageMs: Math.round(performance.now() - this.#leasedAt),
    };
  }

  get end(): RunEnd {
    if (this.#settled !== undefined) return this.#settled;
    if (this.#stop?.kind === "parked" || this.#stop?.kind === "handed_back") return this.#stop.kind;
    // A beat that crosses the report finds the lease gone, because the report was heard.
    return this.#stop?.kind === "abandoned" && !this.#isReporting ? "lost" : "finished";
  }

  /** Waits are parked at once, operators let go. */
  drain(): void {
    this.#workspace.drain();
    this.#parking?.hurry();
  }

  handBack(): void {
    if (this.#isDecided || this.#isOver()) return;
    this.#stop = { kind: "handed_back" };
    this.#calls.close();
    this.#preparation.abort(new Error("the worker is drained"));
    this.#decide(undefined);
  }

  #phase(): RunPhase {
    if (this.#isDecided) return "ending";
    if (this.#stop !== undefined) return "stopping";
    if (this.#parking?.isSaving === true) return "parking";
    if (this.#guest === undefined) return "preparing";
    return this.#calls.pendingWait === undefined ? "running" : "waiting";
  }

  async #runOnWorkspace(): Promise<void> {
    let report: RunReport | undefined;
    this.#workspace.offer();
    try {
      report = await this.#startAndWait();
    } catch (error) {
      report = this.#stop === undefined ? reportOfStartFailure(error) : this.#stopReport();
    }
    if (report === undefined || this.#isOver()) this.#workspace.drop();
    else await this.#closeWorkspace();
    const disposed = this.#guest?.dispose();
    try {
      if (report !== undefined && !this.#isOver()) await this.#report(report);
    } finally {
      this.#parking?.close();
      if (this.#stop?.kind === "handed_back") await this.#giveBackLease(disposed);
      this.#queue.abandon();
      this.#calls.close();
      await disposed; // I3
      if (this.#stop?.kind === "parked") {
        await this.#workspace.parked();
        await this.#reach("park.guest-gone");
      }
    }
  }

  /** I7; what the task had said is told before. */
  async #giveBackLease(disposed: Promise<void> | undefined): Promise<void> {
    await disposed;
    const { client } = this.#options;
    const { lease_id: leaseId, fencing } = this.#run;
    try {
      if (this.#isStarted) await this.#queue.flush();
      await client.handBack(leaseId, { fencing, reason: "worker_drained" }, this.#abandoned.signal);
      this.#settled = "handed_back";
    } catch (error) {
      // Then it ends by itself, later.
      this.#onReportFailure(error);
    }
  }

  /** I6 */
  async #closeWorkspace(): Promise<void> {
    const { unsaved } = await this.#observer.savingFiles(() => this.#workspace.close(this.#isTaskOver));
    if (unsaved === undefined || this.#isOver()) return;
    this.#isUnsaved = true;
    const attributes = { message: unsaved.slice(0, 500), workspace_id: this.#run.workspace_id };
    this.#queue.event("worker.workspace_save_failed", "error", attributes, Date.now());
  }

  async #startAndWait(): Promise<RunReport | undefined> {
    if (this.#run.resume !== undefined) return await this.#resumeAndWait(this.#run.resume);
    const { pool } = this.#options;
    pool.noteRun(this.#kind, "starting");
    try {
      const { guest, pooled } = await this.#takeGuest();
      this.#observer.guestTaken(pooled);
      this.#guest = guest;
      this.#workspace.use(guest);
      if (this.#stop !== undefined) return this.#stopReport();
      guest.session.listen((message) => this.#receive(message));
      void guest.session.ended.then((end) => this.#guestEnded(end));
      const started = { pooled, start_ms: pooled ? 0 : guest.startMs };
      await Promise.all([this.#sendStart(guest), this.#reportStart(started, [])]);
    } finally {
      pool.noteRun(this.#kind, "started");
    }
    return this.#decided.promise;
  }

  /** Go on with the attempt from its checkpoint. What fails here is no outcome of the run: others may restore it. */
  async #resumeAndWait(resume: Resume): Promise<RunReport | undefined> {
    const from = performance.now();
    await this.#reach("resume.leased");
    let calls: readonly HeldCall[];
    try {
      calls = await this.#restore(resume);
    } catch (error) {
      this.#logger.warn({ reason: messageOf(error) }, "the checkpoint was not restored");
      this.#observer.restoreFailed("the checkpoint was not restored");
      await this.#reportFailedRestore(error);
      return undefined;
    }
    if (this.#stop !== undefined) return this.#stopReport();
    const guest = this.#guest;
    if (guest === undefined) return undefined;
    void guest.session.ended.then((end) => this.#guestEnded(end));
    this.#observer.restored(resume);
    this.#limitDuration();
    await this.#reach("resume.answered");
    await this.#reportStart({ pooled: false, start_ms: performance.now() - from }, calls);
    await this.#reach("resume.started");
    this.#endWait(resume);
    return this.#decided.promise;
  }

  async #restore(resume: Resume): Promise<readonly HeldCall[]> {
    const { checkpoints } = this.#options;
    if (checkpoints === undefined) throw new Error("this worker has no checkpoint key");
    return await restoreRunGuest(this.#run, resume, this.#kind, {
      ...this.#options,
      checkpoints,
      onMessage: (message) => this.#receive(message),
      onGuest: (guest) => {
        this.#guest = guest;
        this.#workspace.use(guest);
      },
      signal: this.#preparation.signal,
      answered: Promise.race([this.#restored.promise, this.#decided.promise]),
      reach: this.#reach,
    });
  }

  #endWait({ wait }: Resume): void {
    const pending = { waitId: wait.wait_id, callId: wait.number };
    if (wait.status === "pending") this.#calls.watch(pending);
    else this.#calls.resolved(pending, wait);
  }

  async #reportFailedRestore(error: unknown): Promise<void> {
    if (this.#isOver()) return;
    const request = {
      fencing: this.#run.fencing,
      message: messageOf(error).slice(0, 2000),
      permanent: isPermanent(error),
    };
    try {
      await this.#options.client.restoreFailed(this.#run.lease_id, request, this.#abandoned.signal);
    } catch (failure) {
      this.#onReportFailure(failure);
    }
    this.#stop ??= { kind: "abandoned" };
  }

  #newParking(options: RunExecutorOptions): Parking | undefined {
    const { checkpoints, client, parkAfterMs: afterMs } = options;
    if (checkpoints === undefined) return undefined;
    return new Parking(
      {
        leaseId: this.#run.lease_id,
        fencing: this.#run.fencing,
        client,
        checkpoints,
        calls: this.#calls,
        queue: this.#queue,
        afterMs,
        isDecided: () => this.#isDecided,
        reach: this.#reach,
        isStopping: () => this.#stop !== undefined,
        isBusy: () => this.#workspace.isBusy,
        saveFiles: (signal) => this.#workspace.saveForCheckpoint(signal),
        onParked: () => {
          this.#stop = { kind: "parked" };
          this.#observer.parked();
          this.#decide(undefined);
        },
        onFailure: (error) => this.#onReportFailure(error),
        onSaveFailed: () => options.metrics.checkpoint.errors.inc(),
        signal: this.#abandoned.signal,
        logger: this.#logger,
      },
      () => this.#guest,
    );
  }

  /** The first decision counts. */
  #decide(report: RunReport | undefined): void {
    if (report !== undefined && !this.#isDecided) this.#observer.outcome(report);
    this.#isDecided = true;
    this.#decided.resolve(report);
  }

  /** Nothing is reported any more (I1). */
  #isOver(): boolean {
    const kind = this.#stop?.kind;
    return kind === "abandoned" || kind === "parked" || kind === "handed_back";
  }

  /** A pooled guest has an empty disk: for a workspace whose files are not here yet. */
  async #takeGuest(): Promise<{ guest: RunGuest; pooled: boolean }> {
    const { pool, guests, workspaces } = this.#options;
    const workspaceId = this.#run.workspace_id;
    const { files } = this.#workspace;
    const pooled = (await workspaces.holds(workspaceId, files)) ? undefined : pool.take(this.#kind);
    if (pooled !== undefined) {
      try {
        await workspaces.adopt(pooled.disk, workspaceId, files);
      } catch (error) {
        await pooled.dispose();
        await workspaces.removeDisk(pooled.disk);
        throw error;
      }
      return { guest: pooled, pooled: true };
    }
    const guest = await guests.start(
      this.#kind,
      (spec) => workspaces.open(workspaceId, spec, files),
      this.#preparation.signal,
    );
    return { guest, pooled: false };
  }

  async #sendStart(guest: RunGuest): Promise<void> {
    this.#limitDuration();
    this.#observer.taskStarts();
    await guest.session.send(startMessage(this.#run, this.#observer.taskTraceparent));
  }

  /** Time that the run was parked does not count. */
  #limitDuration(): void {
    const { max_duration_seconds: seconds, active_ms: activeMs } = this.#run;
    const leftMs = Math.max(0, seconds * 1000 - activeMs);
    this.#timers.push(
      setTimeout(() => this.#halt({ kind: "max_duration" }, "the run's max duration is over"), leftMs),
    );
  }

  /** I2: runs beside the start of the task; what the task says waits in the queue until this is accepted. */
  async #reportStart(
    guest: { readonly pooled: boolean; readonly start_ms: number },
    calls: readonly HeldCall[],
  ): Promise<void> {
    const { client, capabilities } = this.#options;
    const request = {
      fencing: this.#run.fencing,
      notes: capabilities.notes.slice(0, 10).map((note) => note.slice(0, 500)),
      guest,
    };
    try {
      await client.startLease(this.#run.lease_id, request, this.#abandoned.signal);
      this.#isStarted = true;
      this.#queue.open();
      this.#calls.start(calls); // I5
      this.#workspace.started(guest.start_ms);
    } catch (error) {
      this.#onReportFailure(error);
    }
  }

  async #receive(message: GuestMessage): Promise<void> {
    switch (message.type) {
      case "run.started":
        return this.#observer.taskStarted();
      case "log":
        return this.#queue.log(message.stream, message.data, plausibleTime(message.at_ms));
      case "metadata": {
        const { operation } = message;
        if (
          operation.op !== "increment" &&
          checkedJson(operation.value_json, limits.metadataBytes) === undefined
        ) {
          return this.#violation("sent metadata that is no JSON");
        }
        return this.#queue.metadata(operation, Date.now());
      }
      case "call": {
        const violation = this.#calls.receive(message);
        return violation === undefined ? undefined : this.#violation(violation);
      }
      case "run.restored":
        if (message.randomness_problem !== undefined) {
          const attributes = { message: message.randomness_problem };
          this.#queue.event("worker.randomness_not_renewed", "warn", attributes, Date.now());
        }
        return this.#restored.resolve();
      case "run.finished":
        return this.#finished(message.outcome);
      default: {
        if (!isCommandMessage(message)) return this.#violation(`sent ${message.type} during a run`);
        const violation = this.#workspace.receive(message);
        return violation === undefined ? undefined : this.#violation(violation);
      }
    }
  }

  #finished(outcome: RunOutcome): void {
    this.#isTaskOver = true;
    if (
      outcome.status === "succeeded" &&
      outcome.output_json !== undefined &&
      checkedJson(outcome.output_json) === undefined
    ) {
      this.#violation("sent an output that is no JSON");
      return;
    }
    this.#decide(this.#stop === undefined ? reportOfOutcome(outcome) : this.#stopReport());
  }

  #answer(callId: number, result: CallResult): void {
    this.#guest?.session.send({ type: "call.result", call_id: callId, result }).catch(() => undefined);
  }

  #violation(reason: string): void {
    this.#guestEnded({ kind: "violation", reason });
  }

  #guestEnded(end: SessionEnd): void {
    const memoryMib = this.#run.sandbox.definition.resources.memory_mib;
    this.#decide(this.#stop === undefined ? reportOfEnd(end, memoryMib) : this.#stopReport());
  }

  #cancel(reason: string, force: boolean): void {
    this.#halt({ kind: "cancel", reason }, reason);
    if (force) this.#decide(this.#stopReport());
  }

  /** Tell the task first, kill when the grace is over. Repeated requests change nothing. */
  #halt(stop: Stop, reason: string): void {
    if (this.#stop !== undefined) return;
    this.#stop = stop;
    const { cancelGraceMs } = this.#options;
    if (this.#guest === undefined) {
      this.#preparation.abort(new Error(reason));
      return;
    }
    this.#guest.session.send({ type: "run.cancel", reason, grace_ms: cancelGraceMs }).catch(() => undefined);
    this.#timers.push(setTimeout(() => this.#decide(this.#stopReport()), cancelGraceMs));
  }

  /** I1 */
  #abandon(): void {
    if (this.#stop?.kind !== "parked") this.#stop = { kind: "abandoned" };
    this.#calls.close();
    this.#queue.abandon();
    this.#abandoned.abort(new Error("the lease is lost"));
    this.#preparation.abort(new Error("the lease is lost"));
    this.#decide(undefined);
  }

  #stopReport(): RunReport | undefined {
    return this.#stop && reportOfStop(this.#stop, this.#run.max_duration_seconds);
  }

  #onReportFailure(error: unknown): void {
    if (this.#isOver()) return;
    const lost = error instanceof LeaseLostError;
    this.#logger.warn(
      { reason: messageOf(error) },
      lost ? "lease lost; the run is dropped" : "reporting failed; the run is dropped",
    );
    this.#abandon();
  }

  async #report(report: RunReport): Promise<void> {
    await this.#queue.flush();
    if (this.#isOver()) return;
    this.#isReporting = true;
    try {
      await this.#options.client.finishRun(
        this.#run.lease_id,
        {
          fencing: this.#run.fencing,
          outcome: report.status === "failed" ? this.#redactor.value(report) : report, // I4
          ...(this.#isUnsaved ? { workspace_unsaved: true } : {}),
        },
        this.#abandoned.signal,
      );
      this.#settled = "finished";
    } catch (error) {
      this.#onReportFailure(error);
    }
  }
}

/** The guest's clock, when it is within a day of ours. */
function plausibleTime(atMs: number): number {
  const now = Date.now();
  return Math.abs(atMs - now) < 86_400_000 ? atMs : now;
}
