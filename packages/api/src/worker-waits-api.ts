/**
 * The worker's wire for what a run waits for and says: waits, streams, tokens, parking. Below a lease; JSON in JSON is kept
 * as text, so that what the task sees is what the database holds. Errors of contract 1.3 come with their code.
 */
import { z } from "zod";
import { versionRef } from "./worker-workspaces-api.ts";

const uuid = z.uuid();
const artifactDigest = z.string().regex(/^sha256:[0-9a-f]{64}$/);
const fencing = z.int();
const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$/);
/** Contract 13.6. */
const tags = z.array(z.string().max(128)).max(32);
const metadata = z.record(z.string(), z.unknown());
const sequence = z.int().nonnegative();
const milliseconds = z.number().positive().max(Number.MAX_SAFE_INTEGER);
const correlationId = z.string().max(512);

/** What a run's output record may take as JSON (contract 13.6). */
export const maxOutputRecordBytes = 256 * 1024;

/** POST leases/{lease_id}/waits. `number` counts the attempt's waits; the same number again is the same wait. */
export const createWaitRequest = z.strictObject({
  fencing,
  number: z.int().positive(),
  wait_for: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("timer"), due_at: z.iso.datetime() }),
    z.strictObject({ kind: z.literal("token"), token_id: uuid, timeout_ms: milliseconds.optional() }),
    z.strictObject({
      kind: z.literal("stream"),
      stream: name,
      correlation_id: correlationId.optional(),
      /** Absent: after what the session's ended runs have taken. */
      after_sequence: sequence.optional(),
      timeout_ms: milliseconds.optional(),
    }),
  ]),
  metadata,
  tags,
});

/** `result_json`: the record (stream), the data (token); absent for timers and what was not completed. */
export const waitState = z.strictObject({
  wait_id: uuid,
  status: z.enum(["pending", "completed", "timed_out", "cancelled"]),
  result_json: z.string().optional(),
});
export type WaitState = z.infer<typeof waitState>;

/** POST waits/poll: long poll until one of these waits is over (its own timeout included), at most `wait_ms`. */
export const pollWaitsRequest = z.strictObject({
  wait_ids: z.array(uuid).max(1000),
  wait_ms: z.int().min(0).max(30_000),
});
export const pollWaitsResponse = z.strictObject({ resolved: z.array(waitState) });

/** POST leases/{lease_id}/tokens. `number` makes a repeated request the same token. */
export const createRunTokenRequest = z.strictObject({
  fencing,
  number: z.int().positive(),
  timeout_ms: milliseconds.optional(),
  tags,
  metadata,
});

/** A record as the SDK reads it, with its data as JSON text. */
export const workerRecord = z.strictObject({
  id: uuid,
  sequence,
  data_json: z.string(),
  correlation_id: z.string().optional(),
  content_type: z.string(),
  created_at: z.string(),
});
export type WorkerRecord = z.infer<typeof workerRecord>;

/** POST leases/{lease_id}/streams/append: to an output stream. `number` makes a repeated request the same record. */
export const appendOutputRequest = z.strictObject({
  fencing,
  number: z.int().positive(),
  stream: name,
  data_json: z.string(),
  content_type: z.string().max(256).optional(),
  correlation_id: correlationId.optional(),
});
export const appendOutputResponse = z.strictObject({ record: workerRecord });

/** POST leases/{lease_id}/streams/read: an input stream on (`take`), or either kind from a sequence. */
export const readStreamRequest = z.strictObject({
  fencing,
  stream: name,
  direction: z.enum(["input", "output"]),
  /** Absent (input): after what the session's ended runs have taken. */
  after_sequence: sequence.optional(),
  correlation_id: correlationId.optional(),
  /** The next record of an input stream is the run's; `limit` is 1 then. */
  take: z.boolean(),
  limit: z.int().min(1).max(500),
  /** Wait that long for a first record. */
  wait_ms: z.int().min(0).max(20_000),
});
/** `after_sequence`: where the reading stood before these records. */
export const readStreamResponse = z.strictObject({
  records: z.array(workerRecord),
  after_sequence: sequence,
});

/** What a worker needs to restore a checkpoint; `compatibility` is compared with the workers' own at the claim. */
export const checkpointManifest = z.looseObject({ compatibility: z.string().min(1).max(512) });
export type CheckpointManifest = z.infer<typeof checkpointManifest>;

/** POST leases/{lease_id}/park: the checkpoint is in the artifact store; the answer decides whether the guest may go. */
export const parkRequest = z.strictObject({
  fencing,
  wait_id: uuid,
  manifest: checkpointManifest,
  artifact_digest: artifactDigest,
  size_bytes: z.int().nonnegative(),
  timings_ms: z.record(z.string().max(64), z.number()),
  /** The files of the same instant, recorded before (POST versions); absent: they are in the archive. */
  workspace_version_id: uuid.optional(),
});
/** `resolved`: the wait is over, or somebody works in the guest's workspace: the guest goes on. */
export const parkResponse = z.strictObject({ status: z.enum(["parked", "resolved"]) });

/** POST uploads/settle: checkpoints that the worker stored and does not know to be referred to, with their leases. */
export const settleUploadsRequest = z.strictObject({
  uploads: z.array(z.strictObject({ artifact_digest: artifactDigest, lease_id: uuid })).max(100),
});
/** Digests of those whose lease is over: a run refers to the checkpoint, or it is removed. */
export const settleUploadsResponse = z.strictObject({ settled: z.array(z.string()) });

/** POST leases/{lease_id}/restore-failed: the leased run's checkpoint could not be restored here; ends the lease. */
export const restoreFailedRequest = z.strictObject({
  fencing,
  message: z.string().max(2000),
  /** The checkpoint itself is bad: no worker can restore it. */
  permanent: z.boolean(),
});

/** Part of a run's assignment: go on from the checkpoint, and give the wait's end to the restored guest. */
export const resume = z.strictObject({
  checkpoint_id: uuid,
  manifest: checkpointManifest,
  artifact_digest: z.string(),
  size_bytes: z.int(),
  /** The workspace's files; absent: they are in the archive. */
  workspace_version: versionRef.optional(),
  wait: waitState.extend({ number: z.int().positive() }),
});
export type Resume = z.infer<typeof resume>;
