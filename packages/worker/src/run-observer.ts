/**
 * What one lease of a run shows of itself: figures, and spans in the trace of who started the run.
 *
 *     run lease ── guest start | guest restore
 *               ├─ task                          until its outcome, or until its guest is saved
 *               ├─ wait …                        each until its result, or until its guest is saved
 *               ├─ checkpoint
 *               └─ workspace save
 *
 * A run that was parked goes on in another lease's span, maybe days later: that one has a link to the one before.
 *
 *  O1  Nothing here can fail the run: it only looks.
 *  O2  Every span ends with the lease.
 */
import type { Resume, RunAssignment } from "@helmr/api";
import {
  leaseTrace,
  runTrace,
  type Span,
  secondsSince,
  type Tracing,
  traceparentOf,
  type WorkerMetrics,
} from "@helmr/telemetry";
import type { RunReport } from "./control-plane-client.ts";
import type { DebugPoint } from "./debug-points.ts";

type Part = "guest" | "task" | "wait" | "checkpoint" | "workspace save";

export class RunObserver {
  readonly #run: RunAssignment;
  readonly #metrics: WorkerMetrics;
  readonly #tracing: Tracing;
  readonly #leasedAt = performance.now();
  readonly #lease: Span;
  readonly #open = new Map<Part, { readonly span: Span; readonly from: number }>();
  /** Of the lease, also where nothing is traced: the run's events name the same. */
  readonly #ownTraceparent: string;
  #guest: "pooled" | "cold" = "cold";

  constructor(run: RunAssignment, metrics: WorkerMetrics, tracing: Tracing) {
    this.#run = run;
    this.#metrics = metrics;
    this.#tracing = tracing;
    const { traceId, spanId, flags } = leaseTrace(run.run_id, run.traceparent, run.lease_id);
    this.#lease = tracing.start("run lease", {
      parent: traceparentOf(runTrace(run.run_id, run.traceparent)),
      kind: "consumer",
      spanId,
      attributes: {
        "helmr.run_id": run.run_id,
        "helmr.session_id": run.session_id,
        "helmr.lease_id": run.lease_id,
        "helmr.environment_id": run.environment_id,
        "helmr.task_id": run.task.id,
        "helmr.attempt": run.attempt_number,
        "helmr.lease": run.resume === undefined ? "start" : "resume",
      },
      links: this.#earlierLease(),
    });
    this.#ownTraceparent = traceparentOf({ traceId, spanId, flags });
    if (run.resume === undefined) this.#begin("guest", "guest start");
    else this.#begin("guest", "guest restore");
  }

  /** What the task's own spans have as their parent. */
  get taskTraceparent(): string {
    return this.#open.get("task")?.span.traceparent ?? this.#ownTraceparent;
  }

  /** A guest is there for a run that starts. */
  guestTaken(pooled: boolean): void {
    this.#guest = pooled ? "pooled" : "cold";
    this.#metrics.pool[pooled ? "hits" : "misses"].inc();
    this.#end("guest", { "helmr.guest": this.#guest });
  }

  /** The start is about to be sent. */
  taskStarts(): void {
    this.#begin("task", "task", { "helmr.task_id": this.#run.task.id });
  }

  /** The task's code was called. */
  taskStarted(): void {
    this.#metrics.runStart.observe({ guest: this.#guest }, secondsSince(this.#leasedAt));
  }

  /** The restored guest's task has answered. */
  restored({ size_bytes: sizeBytes }: Resume): void {
    this.#metrics.restore.seconds.observe(secondsSince(this.#leasedAt));
    this.#metrics.restore.bytes.observe(sizeBytes);
    this.#end("guest", { "helmr.checkpoint_bytes": sizeBytes });
    this.taskStarts();
  }

  restoreFailed(message: string): void {
    this.#metrics.restore.errors.inc();
    this.#open.get("guest")?.span.fail(message);
    this.#end("guest");
  }

  /** The pending wait changed. */
  waits(wait: { readonly waitId: string } | undefined): void {
    if (wait !== undefined) {
      this.#begin("wait", "wait", { "helmr.wait_id": wait.waitId });
      return;
    }
    const seconds = this.#end("wait", { "helmr.parked": false });
    if (seconds !== undefined) this.#metrics.hotWait.observe(seconds);
  }

  /** Named points of parking. */
  reached(point: DebugPoint): void {
    if (point === "park.suspended") this.#begin("checkpoint", "checkpoint");
    if (point !== "park.recorded") return;
    const seconds = this.#end("checkpoint");
    if (seconds !== undefined) this.#metrics.checkpoint.seconds.observe(seconds);
  }

  async savingFiles<T>(save: () => Promise<T>): Promise<T> {
    this.#end("task");
    this.#begin("workspace save", "workspace save");
    try {
      return await save();
    } finally {
      this.#end("workspace save");
    }
  }

  /** What is about to be told of the run. */
  outcome(report: RunReport): void {
    this.#lease.set({ "helmr.outcome": report.status });
    // Its message is the task's: it may say anything, and stays in the run's events.
    if (report.status === "failed") this.#lease.fail(report.failure_kind);
    if (report.status === "failed") this.#open.get("task")?.span.fail(report.failure_kind);
  }

  /** The lease is over (O2). */
  ended(how: string): void {
    this.#metrics.runs.inc({ outcome: how });
    this.#endSpans(how);
  }

  /** Its guest is saved: what is cleaned up from here on is no part of the run. */
  parked(): void {
    this.#endSpans("parked");
  }

  #endSpans(how: string): void {
    for (const part of [...this.#open.keys()])
      this.#end(part, how === "parked" ? { "helmr.parked": true } : {});
    this.#lease.set({ "helmr.lease_end": how });
    this.#lease.end();
  }

  #begin(part: Part, name: string, attributes: Record<string, string> = {}): void {
    this.#end(part);
    const parent = part === "wait" ? this.taskTraceparent : this.#lease.traceparent;
    const span = this.#tracing.start(name, { parent, attributes });
    this.#open.set(part, { span, from: performance.now() });
  }

  /** How long it took, in seconds; undefined when it had not begun. */
  #end(part: Part, attributes: Record<string, string | number | boolean> = {}): number | undefined {
    const open = this.#open.get(part);
    if (open === undefined) return undefined;
    this.#open.delete(part);
    open.span.set(attributes);
    open.span.end();
    return secondsSince(open.from);
  }

  /** Of the lease in which the run was parked. */
  #earlierLease(): string[] {
    const { resume, run_id: runId, traceparent } = this.#run;
    const leaseId = resume?.manifest.lease_id;
    return typeof leaseId === "string" ? [traceparentOf(leaseTrace(runId, traceparent, leaseId))] : [];
  }
}
