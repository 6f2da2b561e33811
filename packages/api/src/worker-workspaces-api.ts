/**
 * The worker's wire for workspaces: saved versions, live copies, what is done in them.
 *
 * A live copy (materialization) is a run's guest (`run_lease_id` is then the lease), or a guest of its own, leased like a
 * run. What is to be done there comes through POST workspaces/poll, in order and each once (`after_seq` acknowledges);
 * what happens there goes back through POST materializations/{id}/append, numbered from 1 per materialization.
 */
import { z } from "zod";

const uuid = z.uuid();
const fencing = z.int();
const artifactDigest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const lease = { lease_id: uuid, fencing };

/** A saved version that files are restored from. */
export const versionRef = z.strictObject({ version_id: uuid, manifest_digest: artifactDigest });
export type VersionRef = z.infer<typeof versionRef>;

/**
 * POST uploads/reserve: artifacts that the holder of the lease (of a run or a materialization) is about to store, or found
 * stored already: not collected until the lease is over.
 */
export const reserveArtifactsRequest = z.strictObject({
  ...lease,
  digests: z.array(artifactDigest).min(1).max(1000),
});

/** POST leases/{lease_id}/versions, of a run or a materialization: all of the version's artifacts are stored. */
export const recordVersionRequest = z.strictObject({
  fencing,
  reason: z.enum(["run", "stop", "checkpoint", "request"]),
  manifest_digest: artifactDigest,
  content_digest: z.string().max(128),
  artifact_encoding: z.string().max(64),
  entry_count: z.int().nonnegative(),
  size_bytes: z.int().nonnegative(),
  /** The manifest and every pack. */
  artifacts: z.array(artifactDigest).min(1).max(20_000),
  /** What the files were restored from or saved as before. */
  parent_version_id: uuid.optional(),
  /** Answers this question (`save`). */
  request_id: uuid.optional(),
  /** What could not be saved (FIFOs, sockets, devices): for the event. */
  skipped: z.array(z.strictObject({ path: z.string().max(4096), kind: z.string().max(32) })).max(100),
  timings_ms: z.record(z.string().max(64), z.number()),
});
/** The worker's files are those of this version from now on. */
export const recordVersionResponse = z.strictObject({ version: versionRef });

/** Part of POST lease's answer: a live copy to make. Its sandbox is added in worker-api.ts. */
export const materializationAssignment = z.strictObject({
  kind: z.literal("materialization"),
  ...lease,
  materialization_id: uuid,
  workspace_id: uuid,
  environment_id: uuid,
  deployment_id: uuid,
  base_version: versionRef.optional(),
  /** This worker had the workspace last: changes on its disk that could not be saved count. */
  workspace_is_here: z.boolean().optional(),
  /** The workspace is not called clean: a save is recorded also when it finds nothing changed. */
  workspace_is_dirty: z.boolean().optional(),
  /** Unconfirmed for that long it may be lost: longer than a run's lease, for what was not saved would be lost with it. */
  lease_duration_ms: z.int().positive().optional(),
});

/** A live copy as the worker names it in its polls. */
const heldMaterialization = z.strictObject({
  materialization_id: uuid,
  fencing,
  /** Everything up to here is done or in hand. */
  after_seq: z.int().nonnegative(),
});
/** POST workspaces/poll: long poll until there is something to do in one of the worker's live copies. */
export const pollWorkspacesRequest = z.strictObject({
  materializations: z.array(heldMaterialization).max(1000),
  wait_ms: z.int().min(0).max(30_000),
});

const environmentVariables = z.record(z.string(), z.string());
export const workspaceCommand = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("exec.start"),
    exec_id: uuid,
    command: z.array(z.string()),
    cwd: z.string(),
    env: environmentVariables,
  }),
  /** `data_base64` beside it. */
  z.strictObject({ kind: z.literal("exec.stdin"), exec_id: uuid, offset: z.int() }),
  z.strictObject({ kind: z.literal("exec.stdin_close"), exec_id: uuid }),
  z.strictObject({ kind: z.literal("exec.signal"), exec_id: uuid, signal: z.string() }),
  z.strictObject({
    kind: z.literal("pty.start"),
    pty_id: uuid,
    cwd: z.string(),
    cols: z.int(),
    rows: z.int(),
  }),
  z.strictObject({ kind: z.literal("pty.input"), pty_id: uuid, offset: z.int() }),
  z.strictObject({ kind: z.literal("pty.resize"), pty_id: uuid, cols: z.int(), rows: z.int() }),
  z.strictObject({ kind: z.literal("pty.close"), pty_id: uuid }),
  /** Save now; the answer is POST leases/{lease_id}/versions, or a request result that says why not. */
  z.strictObject({ kind: z.literal("save"), request_id: uuid, message: z.string().optional() }),
  /** Read the live files; the answer is a request result. `limit` entries (list), or bytes from `start` (read). */
  z.strictObject({
    kind: z.literal("files"),
    request_id: uuid,
    operation: z.enum(["list", "stat", "read"]),
    path: z.string(),
    after: z.string().optional(),
    start: z.int().nonnegative().optional(),
    limit: z.int().positive(),
  }),
  /**
   * End what runs there, save, let the guest go, and finish (of a run's guest: end what operators run there, and finish).
   * Somebody asked for it, nobody used the copy for long, or a run waits for the workspace. Comes also before `started`.
   */
  z.strictObject({ kind: z.literal("stop") }),
]);
export type WorkspaceCommand = z.infer<typeof workspaceCommand>;

export const pollWorkspacesResponse = z.strictObject({
  /** Live copies that were asked for in guests of runs this worker holds, and that it did not name. */
  attached: z.array(
    z.strictObject({
      materialization_id: uuid,
      workspace_id: uuid,
      run_id: uuid,
      run_lease_id: uuid,
      fencing,
    }),
  ),
  commands: z.array(
    z.strictObject({
      materialization_id: uuid,
      seq: z.int().positive(),
      command: workspaceCommand,
      data_base64: z.base64().optional(),
    }),
  ),
  /** Not this worker's any more. */
  lost: z.array(uuid),
});
export type WorkspacePoll = z.infer<typeof pollWorkspacesResponse>;

/** POST materializations/{id}/started: the guest is up; commands can be carried out, and come from now on. */
export const materializationStartedRequest = z.strictObject({ fencing, start_ms: z.number() });

/** POST materializations/{id}/append: body <= 1 MiB. */
export const workspaceAppendItem = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("exec.started"),
    number: z.int().positive(),
    exec_id: uuid,
    pid: z.int32(),
  }),
  /** `offset`: bytes of the stream before these. */
  z.strictObject({
    kind: z.literal("output"),
    number: z.int().positive(),
    resource_id: uuid,
    stream: z.enum(["stdout", "stderr", "output"]),
    offset: z.int().nonnegative(),
    content_base64: z.base64(),
    observed_at: z.iso.datetime(),
  }),
  /** `terminated`: by a signal that was asked for, or with its guest. `error`: it could not be started. */
  z.strictObject({
    kind: z.literal("exec.exited"),
    number: z.int().positive(),
    exec_id: uuid,
    state: z.enum(["exited", "terminated", "failed"]),
    exit_code: z.int32().optional(),
    signal: z.string().max(32).optional(),
    error: z.strictObject({ message: z.string().max(4000) }).optional(),
  }),
  z.strictObject({ kind: z.literal("pty.opened"), number: z.int().positive(), pty_id: uuid, pid: z.int32() }),
  z.strictObject({
    kind: z.literal("pty.resized"),
    number: z.int().positive(),
    pty_id: uuid,
    cols: z.int(),
    rows: z.int(),
  }),
  z.strictObject({
    kind: z.literal("pty.closed"),
    number: z.int().positive(),
    pty_id: uuid,
    state: z.enum(["closed", "failed"]),
    error: z.strictObject({ message: z.string().max(4000) }).optional(),
  }),
]);
export type WorkspaceAppendItem = z.infer<typeof workspaceAppendItem>;
export const workspaceAppendRequest = z.strictObject({
  fencing,
  items: z.array(workspaceAppendItem).max(1000),
});
/** `paused`: streams whose attached reader is behind; send no more of them until an append (an empty one, too) says otherwise. */
export const workspaceAppendResponse = z.strictObject({
  acknowledged: z.int(),
  paused: z.array(z.strictObject({ resource_id: uuid, stream: z.string() })),
});

/** POST materializations/{id}/requests/{request_id}: the answer of `save` (failures only) or `files`. */
export const workspaceRequestResult = z.strictObject({
  fencing,
  status: z.enum(["done", "failed"]),
  /** Entries, entry, or `{code, message}` of a failure. */
  result: z.record(z.string(), z.unknown()),
  data_base64: z.base64().optional(),
});

/**
 * POST materializations/{id}/finish: the live copy is gone (or, of a run's guest, no longer offered). What still ran in it
 * ends with it.
 */
export const finishMaterializationRequest = z.strictObject({
  fencing,
  outcome: z.discriminatedUnion("status", [
    z.strictObject({ status: z.literal("stopped") }),
    /** `unsaved`: changes since the last version are lost. */
    z.strictObject({
      status: z.literal("failed"),
      code: z.string().max(64).optional(),
      message: z.string().max(4000),
      unsaved: z.boolean(),
    }),
  ]),
});
