/**
 * The wire between worker and control plane: `/api/worker/v1/...`, JSON, bearer worker credential.
 *
 * Every write that belongs to a lease carries `lease_id` and `fencing`; a stale pair gets 409 `lease_lost` and must be
 * dropped by the worker (kill the guest, report nothing more). Appends are numbered per lease from 1, so that a repeated
 * append is recognised and acknowledged without effect.
 */
import { z } from "zod";
import { catalog, catalogSandbox, catalogSecret } from "./catalog.ts";
import { resume } from "./worker-waits-api.ts";
import { materializationAssignment, versionRef } from "./worker-workspaces-api.ts";

export const workerProtocolVersion = "helmr.worker.v1";

const uuid = z.uuid();
const lease = { lease_id: uuid, fencing: z.int() };

/** What operators read a worker by: keys and values of 63 characters at most. */
export const workerLabels = z
  .record(z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/), z.string().regex(/^[A-Za-z0-9._-]{0,63}$/))
  .refine((labels) => Object.keys(labels).length <= 32, "at most 32 labels");

/** POST register, with the group's bootstrap token as bearer. */
export const registerWorkerRequest = z.strictObject({
  protocol: z.literal(workerProtocolVersion),
  /** Stable across restarts of the same worker data folder: registering again replaces the credential, ends old leases. */
  worker_instance_id: uuid,
  name: z.string().min(1).max(128),
  version: z.string().max(64),
  capacity: z.strictObject({
    runs: z.int().positive(),
    builds: z.int().positive(),
    /** Live copies of workspaces beside the runs. */
    materializations: z.int().nonnegative().optional(),
    /**
     * With `slots`, what its guests (runs and live copies of their own) may hold together, by the resources of their
     * sandboxes: the control plane gives it nothing more than that. What it keeps for builds is not in it, and `cpu` may be
     * more than it has. Without `slots` only the numbers above count, which the worker keeps by what it asks for.
     */
    cpu: z.int().positive(),
    memory_mib: z.int().positive(),
    disk_mib: z.int().positive().optional(),
    slots: z.int().positive().optional(),
  }),
  labels: workerLabels.optional(),
  capabilities: z.strictObject({
    driver: z.enum(["gvisor", "firecracker", "qemu"]),
    driver_version: z.string().max(128),
    architecture: z.enum(["x64", "arm64"]),
    limits: z.strictObject({ cpu: z.boolean(), memory: z.boolean(), disk: z.boolean() }),
    network: z.boolean(),
    /** Which checkpoints it can restore: those with the same text in their manifest. Absent: none. */
    checkpoint_compatibility: z.string().max(512).optional(),
  }),
});
export const registerWorkerResponse = z.strictObject({
  /** `hlmr_wk_<43 base64url chars>`; only its hash is stored. */
  credential: z.string(),
  heartbeat_interval_ms: z.int().positive(),
  lease_duration_ms: z.int().positive(),
});

const free = z.int().nonnegative();

/** POST heartbeat: extends the listed leases; the answer says which are lost and which runs are to be cancelled. */
export const heartbeatRequest = z.strictObject({
  leases: z.array(z.strictObject(lease)).max(1000),
  /** What the worker counts as free of its capacity: for operators. */
  capacity_free: z.strictObject({ cpu: free, memory_mib: free, disk_mib: free, slots: free }).optional(),
  /** It takes no more work by its own decision; over when a heartbeat comes without it, or with the next registration. */
  state: z.literal("draining").optional(),
});
export const heartbeatResponse = z.strictObject({
  leases: z.array(
    z.strictObject({
      lease_id: uuid,
      status: z.enum(["active", "lost"]),
      cancel: z.strictObject({ reason: z.string(), force: z.boolean() }).optional(),
    }),
  ),
  /** An operator, or the worker itself, wants it to take nothing new. */
  draining: z.boolean(),
});

/**
 * POST rotate-credential, body `{}`, with a credential that is good: a new one. The one that was sent stays good until then, so
 * that a lost answer locks nobody out: the worker asks again with what it has.
 */
export const rotateCredentialRequest = z.strictObject({});
export const rotateCredentialResponse = z.strictObject({
  credential: z.string(),
  previous_valid_until: z.iso.datetime(),
});

/** POST lease: long poll (`wait_ms` <= 30000) for up to that much work. */
export const leaseRequest = z.strictObject({
  max_runs: z.int().min(0).max(100),
  max_builds: z.int().min(0).max(10),
  max_materializations: z.int().min(0).max(100).optional(),
  wait_ms: z.int().min(0).max(30_000),
});

/** What a built sandbox needs to start: the definition and the image as built. */
export const builtSandbox = z.strictObject({
  definition: catalogSandbox,
  image: z.strictObject({
    digest: z.string(),
    /** Layer digests from the base up, as artifacts the worker's image store resolves. */
    layers: z.array(z.string()),
    env: z.record(z.string(), z.string()),
    user: z.string(),
    workdir: z.string(),
  }),
});
export type BuiltSandbox = z.infer<typeof builtSandbox>;

/**
 * Header of POST lease: fields of assignments that the worker knows beyond those of the first version, separated by commas. A
 * worker refuses what it does not know, and in an upgrade control planes come first.
 */
export const knownFieldsHeader = "helmr-worker-fields";
export const knownFields = "traceparent";

export const runAssignment = z.strictObject({
  kind: z.literal("run"),
  ...lease,
  run_id: uuid,
  session_id: uuid,
  environment_id: uuid,
  workspace_id: uuid,
  deployment_id: uuid,
  deployment_version: z.string(),
  /** CAS digest of the uploaded source tar. */
  source_digest: z.string(),
  attempt_id: uuid,
  attempt_number: z.int(),
  /** W3C trace context of who started the run; only for workers that say they know it (`knownFieldsHeader`). */
  traceparent: z.string().optional(),
  task: z.strictObject({ id: z.string(), file_path: z.string(), export_name: z.string() }),
  sandbox: builtSandbox,
  payload_json: z.string(),
  metadata_json: z.string(),
  max_duration_seconds: z.int(),
  /** Already used of it, in earlier leases of this attempt. */
  active_ms: z.int().nonnegative(),
  /** This worker had the workspace last; else what it may have on its disk is old, and must go. */
  workspace_is_here: z.boolean(),
  /** The workspace is not called clean: a save is recorded also when it finds nothing changed. */
  workspace_is_dirty: z.boolean().optional(),
  /** The workspace's files, unless the worker's own disk holds this version; absent: an empty workspace. */
  base_version: versionRef.optional(),
  /** Set: restore this checkpoint instead of starting the task. */
  resume: resume.optional(),
  /** Declared secrets with their values: held in memory only, never logged. */
  secrets: z.array(z.strictObject({ placement: catalogSecret, value: z.string() })),
});
export type RunAssignment = z.infer<typeof runAssignment>;

export const buildAssignment = z.strictObject({
  kind: z.literal("build"),
  ...lease,
  deployment_id: uuid,
  environment_id: uuid,
  source_digest: z.string(),
  source_size_bytes: z.int(),
  /** Every secret of the environment's that an image of this build may mount is asked for by name with POST build-secrets. */
});
export type BuildAssignment = z.infer<typeof buildAssignment>;

export const leaseResponse = z.strictObject({
  runs: z.array(runAssignment),
  builds: z.array(buildAssignment),
  materializations: z.array(materializationAssignment.extend({ sandbox: builtSandbox })),
});
export type MaterializationAssignment = z.infer<typeof leaseResponse>["materializations"][number];

/** POST leases/{lease_id}/start: the guest is up and the task about to start. Emits run_lease.started. */
export const startLeaseRequest = z.strictObject({
  fencing: z.int(),
  /** Limits that this host cannot enforce, said in the run's events. */
  notes: z.array(z.string().max(500)).max(10).default([]),
  guest: z.strictObject({ pooled: z.boolean(), start_ms: z.number() }),
});

/** POST leases/{lease_id}/append: body <= 256 KiB. `number` counts items of the lease from 1. */
export const appendItem = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("log"),
    number: z.int().positive(),
    stream: z.enum(["stdout", "stderr"]),
    content_base64: z.base64(),
    occurred_at: z.iso.datetime(),
  }),
  z.strictObject({
    kind: z.literal("metadata"),
    number: z.int().positive(),
    operation: z.discriminatedUnion("op", [
      z.strictObject({ op: z.literal("set"), key: z.string(), value_json: z.string() }),
      z.strictObject({ op: z.literal("patch"), value_json: z.string() }),
      z.strictObject({ op: z.literal("increment"), key: z.string(), amount: z.number() }),
    ]),
    occurred_at: z.iso.datetime(),
  }),
  /** Facts of the worker worth a line in the run's events: log truncation, limits, guest start. */
  z.strictObject({
    kind: z.literal("event"),
    number: z.int().positive(),
    event_kind: z.string().max(128),
    severity: z.enum(["info", "warn", "error"]),
    attributes: z.record(z.string(), z.unknown()),
    occurred_at: z.iso.datetime(),
  }),
]);
export const appendRequest = z.strictObject({
  fencing: z.int(),
  items: z.array(appendItem).min(1).max(1000),
});
export const appendResponse = z.strictObject({ acknowledged: z.int() });

/** POST leases/{lease_id}/finish. Retry, terminal state and events are decided by the control plane. */
export const finishRunRequest = z.strictObject({
  fencing: z.int(),
  /** What the run changed in its workspace could not be saved: it is on this worker's disk alone. */
  workspace_unsaved: z.boolean().optional(),
  outcome: z.discriminatedUnion("status", [
    z.strictObject({ status: z.literal("succeeded"), output_json: z.string().optional() }),
    z.strictObject({
      status: z.literal("failed"),
      /** Contract 13.10 plus guest_out_of_memory, payload_invalid, output_too_large, output_not_serializable. */
      failure_kind: z.string().max(64),
      message: z.string().max(20_000),
      /** What `run.failed` carries: `{name, message, stack?, cause?, exit_code?, signal?, limit_seconds?}`. */
      detail: z.record(z.string(), z.unknown()),
      exit_code: z.int().optional(),
      retryable: z.boolean(),
    }),
    z.strictObject({ status: z.literal("cancelled"), reason: z.string() }),
  ]),
});
/** `superseded`: another outcome already counts (409 is for lost leases). */
export const finishRunResponse = z.strictObject({ status: z.enum(["accepted", "retry_scheduled"]) });

/**
 * POST leases/{lease_id}/hand-back, of a run or of a live copy that is not up: it is queued again at once. A run that had
 * started goes on from its last checkpoint, else it begins anew; neither uses up a try.
 */
export const handBackRequest = z.strictObject({
  fencing: z.int(),
  /** `no_room`: the worker has not the memory, processors or disk for it just now. */
  reason: z.enum(["worker_drained", "no_room"]),
});

/** Builds: POST builds/{lease_id}/events, /secrets, /finish. */
export const buildEventsRequest = z.strictObject({
  fencing: z.int(),
  items: z
    .array(
      z.strictObject({
        number: z.int().positive(),
        kind: z.string().max(128),
        message: z.string().max(16_384),
        severity: z.enum(["info", "warn", "error"]),
        attributes: z.record(z.string(), z.unknown()),
        occurred_at: z.iso.datetime(),
      }),
    )
    .min(1)
    .max(500),
});
export const buildSecretsRequest = z.strictObject({ fencing: z.int(), names: z.array(z.string()).max(100) });
export const buildSecretsResponse = z.strictObject({
  values: z.record(z.string(), z.string()),
  missing: z.array(z.string()),
});
export const finishBuildRequest = z.strictObject({
  fencing: z.int(),
  outcome: z.discriminatedUnion("status", [
    z.strictObject({
      status: z.literal("built"),
      catalog,
      sandboxes: z.array(
        z.strictObject({ sandbox_id: z.string(), fingerprint: z.string(), built: builtSandbox }),
      ),
    }),
    /** `step` names the failing step; `output_tail` its last lines (<= 16 KiB). */
    z.strictObject({
      status: z.literal("failed"),
      failure_kind: z.string().max(64),
      message: z.string().max(20_000),
      step: z.string().max(500).optional(),
      output_tail: z.string().max(20_000).optional(),
      retryable: z.boolean(),
    }),
  ]),
});
