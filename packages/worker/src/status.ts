/** A worker's status, as its socket tells it: ids, states, figures, never what is in the work. */
import { z } from "zod";
import type { RegisterRequest } from "./control-plane-client.ts";
import { diskFigures } from "./disk-space.ts";
import type { DrainProgress } from "./drain.ts";
import type { ResolvedWorkerOptions } from "./options.ts";
import type { Work } from "./work.ts";

const count = z.int().nonnegative();
const ageMs = z.number().nonnegative();
const free = z.int();
const ends = { finished: count, handed_back: count };

export const drainSummary = z.strictObject({
  runs: z.strictObject({ ...ends, parked: count, lost: count }),
  builds: z.strictObject(ends),
  copies: z.strictObject({ saved: count, unsaved: count }),
  /** What did not even end when its time was over. */
  left: count,
});

const capacity = z.strictObject({ cpu: free, memory_mib: free, disk_mib: free, slots: free });

export const workerStatus = z.strictObject({
  worker_instance_id: z.uuid(),
  name: z.string(),
  version: z.string(),
  pid: z.int(),
  labels: z.record(z.string(), z.string()),
  /** `starting`: not registered yet. `draining`: it takes nothing new; `drain` says how far it is. */
  state: z.enum(["starting", "working", "draining", "drained", "stopping"]),
  since: z.iso.datetime(),
  /** An operator has asked the control plane for the drain; it lasts until they undo it. */
  drained_by_operator: z.boolean(),
  drain: z
    .strictObject({
      phase: z.enum(["draining", "overdue", "done"]),
      /** Until what remains is given back; absent: as long as it takes. */
      left_ms: count.optional(),
      summary: drainSummary.optional(),
    })
    .optional(),
  control_plane: z.strictObject({ url: z.string(), last_contact_at: z.iso.datetime().optional() }),
  isolation: z.strictObject({
    driver: z.string(),
    version: z.string(),
    /** Waiting runs saved under the same text can go on here; absent: waiting runs keep their guests. */
    checkpoint_compatibility: z.string().optional(),
  }),
  /** What guests may hold together, and what is left of it. */
  capacity: z.strictObject({ total: capacity, free: capacity }),
  builds: z.strictObject({
    slots: count,
    held: z.array(z.strictObject({ deployment_id: z.uuid(), age_ms: ageMs })),
  }),
  pool: z.strictObject({ guests: count, memory_mib: count }),
  disk: z.strictObject({
    dir: z.string(),
    total_mib: count,
    free_mib: count,
    reserve_mib: count,
    /** No new work is taken. */
    is_full: z.boolean(),
  }),
  runs: z.array(
    z.strictObject({
      run_id: z.uuid(),
      phase: z.enum(["preparing", "running", "waiting", "parking", "stopping", "ending"]),
      age_ms: ageMs,
    }),
  ),
  copies: z.array(
    z.strictObject({
      materialization_id: z.uuid(),
      workspace_id: z.uuid(),
      phase: z.enum(["opening", "live", "stopping"]),
      age_ms: ageMs,
    }),
  ),
});
export type WorkerStatus = z.infer<typeof workerStatus>;
export type DrainSummary = z.infer<typeof drainSummary>;

/** The status of a running worker. */
export async function statusOf(worker: {
  readonly options: ResolvedWorkerOptions;
  readonly workerInstanceId: string;
  readonly description: RegisterRequest;
  readonly work: Work;
  readonly state: WorkerStatus["state"];
  readonly since: Date;
  readonly isOperators: boolean;
  readonly drain: DrainProgress | undefined;
  readonly lastContactAt: Date | undefined;
}): Promise<WorkerStatus> {
  const { options, description, work, drain } = worker;
  const { capabilities } = description;
  const { totalMib, freeMib } = await diskFigures(options.dataDir);
  const compatibility = capabilities.checkpoint_compatibility;
  return {
    worker_instance_id: worker.workerInstanceId,
    name: description.name,
    version: description.version,
    pid: process.pid,
    labels: { ...options.labels },
    state: worker.state,
    since: worker.since.toISOString(),
    drained_by_operator: worker.isOperators,
    ...(drain === undefined ? {} : { drain: drainStatus(drain) }),
    control_plane: {
      url: options.controlPlaneUrl,
      ...(worker.lastContactAt === undefined ? {} : { last_contact_at: worker.lastContactAt.toISOString() }),
    },
    isolation: {
      driver: capabilities.driver,
      version: capabilities.driver_version,
      ...(compatibility === undefined ? {} : { checkpoint_compatibility: compatibility }),
    },
    capacity: { total: work.room.total, free: work.room.free },
    builds: {
      slots: options.capacity.builds,
      held: work.builds.held.map(({ deploymentId, ageMs }) => ({
        deployment_id: deploymentId,
        age_ms: ageMs,
      })),
    },
    pool: { guests: work.pool.size, memory_mib: work.pool.memoryMib },
    disk: {
      dir: options.dataDir,
      total_mib: totalMib,
      free_mib: freeMib,
      reserve_mib: options.diskReserveMib,
      is_full: work.disk.isFull,
    },
    runs: work.runs.held.map(({ runId, phase, ageMs }) => ({ run_id: runId, phase, age_ms: ageMs })),
    copies: work.copies.held.map(({ materializationId, workspaceId, phase, ageMs }) => ({
      materialization_id: materializationId,
      workspace_id: workspaceId,
      phase,
      age_ms: ageMs,
    })),
  };
}

function drainStatus({ phase, leftMs, summary }: DrainProgress): NonNullable<WorkerStatus["drain"]> {
  return {
    phase,
    ...(leftMs === undefined ? {} : { left_ms: leftMs }),
    ...(summary === undefined ? {} : { summary }),
  };
}
