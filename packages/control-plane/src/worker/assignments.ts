/** From claimed rows to what the worker gets: the task's definition, and its secrets, decrypted for this lease only. */
import {
  type BuildAssignment,
  type BuiltSandbox,
  checkpointManifest,
  type MaterializationAssignment,
  type RunAssignment,
} from "@helmr/api";
import type { LiveBus } from "@helmr/coordination";
import {
  type ClaimedBuild,
  type ClaimedMaterialization,
  type ClaimedRun,
  type Database,
  finishRuns,
  type Resume,
  type RunOutcome,
  readManifestDigest,
  readResume,
  readSecretValues,
  readTaskDefinition,
  type SecretCipher,
  SecretCipherError,
  type TaskDefinition,
} from "@helmr/store";
import type { ControlMetrics } from "@helmr/telemetry";
import { tellRun } from "../hints.ts";
import { observeResumed } from "./observe.ts";

/** Definitions never change; the oldest goes first. A large one takes about 20 KiB. */
const maxDefinitions = 500;

export class Assignments {
  readonly #db: Database;
  readonly #cipher: SecretCipher;
  readonly #bus: LiveBus;
  readonly #metrics: ControlMetrics;
  readonly #definitions = new Map<string, TaskDefinition>();

  constructor(db: Database, cipher: SecretCipher, bus: LiveBus, metrics: ControlMetrics) {
    this.#db = db;
    this.#cipher = cipher;
    this.#bus = bus;
    this.#metrics = metrics;
  }

  /** Assignments of the claimed runs; one that cannot be made ends its run, with the reason, and is left out. */
  async forRuns(workerInstanceId: string, claimed: readonly ClaimedRun[]): Promise<RunAssignment[]> {
    const made = await Promise.all(claimed.map((run) => this.#forRun(workerInstanceId, run)));
    return made.filter((assignment) => assignment !== undefined);
  }

  async #forRun(workerInstanceId: string, run: ClaimedRun): Promise<RunAssignment | undefined> {
    tellRun(this.#bus, run.id);
    if (run.workspace_state !== "active") {
      const message = `the run's workspace is ${run.workspace_state}; start the task with another one`;
      return await this.#refuse(workerInstanceId, run, "workspace_not_active", message);
    }
    const definition = await this.#definition(run.deployment_task_id);
    if (definition === undefined) {
      return await this.#refuse(
        workerInstanceId,
        run,
        "task_not_found",
        "the task is not in its deployment any more",
      );
    }
    const names = [...new Set(definition.secrets.map((secret) => secret.name))];
    const values = await this.#secretValues(run.environment_id, names);
    if (values instanceof SecretCipherError) {
      return await this.#refuse(workerInstanceId, run, "secret_unreadable", values.message);
    }
    const missing = names.filter((name) => !values.has(name));
    if (missing.length > 0) {
      const message = `the task declares secrets that this environment does not have: ${missing.join(", ")}; set each with \`helmr secret set NAME\``;
      return await this.#refuse(workerInstanceId, run, "secret_missing", message);
    }
    if (run.checkpoint_id === null) {
      return assignment(await this.#withBase(run), definition, values, undefined);
    }
    const resume = await readResume(this.#db, run.id);
    if (resume === undefined) throw new Error("a run was claimed to resume and has no checkpoint");
    observeResumed({ metrics: this.#metrics }, resume);
    return assignment(run, definition, values, resume);
  }

  /** The claim saw the id of a version that was restored or uploaded while it ran, and not yet the version. */
  async #withBase(run: ClaimedRun): Promise<ClaimedRun> {
    if (run.base_version_id === null || run.base_manifest_digest !== null) return run;
    const digest = await readManifestDigest(this.#db, run.base_version_id);
    if (digest === undefined) throw new Error("a workspace's current version is not there");
    return { ...run, base_manifest_digest: digest };
  }

  /** The error is for people: it names the secret and the id of the key that would be needed. */
  async #secretValues(
    environmentId: string,
    names: readonly string[],
  ): Promise<Map<string, string> | SecretCipherError> {
    try {
      return await readSecretValues(this.#db, this.#cipher, environmentId, names);
    } catch (error) {
      if (error instanceof SecretCipherError) return error;
      throw error;
    }
  }

  async #definition(deploymentTaskId: string): Promise<TaskDefinition | undefined> {
    const known = this.#definitions.get(deploymentTaskId);
    if (known !== undefined) return known;
    const definition = await readTaskDefinition(this.#db, deploymentTaskId);
    if (definition === undefined) return undefined;
    const [oldest] = this.#definitions.keys();
    if (this.#definitions.size >= maxDefinitions && oldest !== undefined) this.#definitions.delete(oldest);
    this.#definitions.set(deploymentTaskId, definition);
    return definition;
  }

  async #refuse(
    workerInstanceId: string,
    run: ClaimedRun,
    failureKind: string,
    message: string,
  ): Promise<undefined> {
    const outcome: RunOutcome = { status: "failed", failureKind, message, detail: {}, retryable: false };
    await finishRuns(this.#db, [{ workerInstanceId, leaseId: run.lease_id, fencing: run.fencing, outcome }]);
    tellRun(this.#bus, run.id);
    return undefined;
  }
}

function assignment(
  run: ClaimedRun,
  definition: TaskDefinition,
  values: ReadonlyMap<string, string>,
  resume: Resume | undefined,
): RunAssignment {
  return {
    kind: "run",
    lease_id: run.lease_id,
    fencing: run.fencing,
    run_id: run.id,
    session_id: run.session_id,
    environment_id: run.environment_id,
    workspace_id: run.workspace_id,
    deployment_id: run.deployment_id,
    deployment_version: run.deployment_version,
    source_digest: definition.sourceDigest,
    attempt_id: run.attempt_id,
    attempt_number: run.attempt_number,
    task: { id: definition.taskId, file_path: definition.filePath, export_name: definition.exportName },
    sandbox: definition.sandbox,
    payload_json: run.payload,
    metadata_json: run.metadata,
    ...(run.trace_context === null ? {} : { traceparent: run.trace_context }),
    max_duration_seconds: run.max_duration_seconds,
    active_ms: run.active_ms,
    workspace_is_here: run.workspace_is_here,
    ...(run.workspace_is_dirty ? { workspace_is_dirty: true } : {}),
    ...(resume === undefined ? baseVersionOf(run) : { resume: resumeOf(resume) }),
    secrets: definition.secrets.map((placement) => ({ placement, value: values.get(placement.name) ?? "" })),
  };
}

function baseVersionOf({ base_version_id: id, base_manifest_digest: digest }: ClaimedRun) {
  return id === null || digest === null ? {} : { base_version: { version_id: id, manifest_digest: digest } };
}

function resumeOf({
  checkpointId,
  manifest,
  artifactDigest,
  sizeBytes,
  workspaceVersion,
  wait,
}: Resume): RunAssignment["resume"] {
  return {
    checkpoint_id: checkpointId,
    manifest: checkpointManifest.parse(manifest),
    artifact_digest: artifactDigest,
    size_bytes: sizeBytes,
    ...(workspaceVersion && {
      workspace_version: {
        version_id: workspaceVersion.id,
        manifest_digest: workspaceVersion.manifestDigest,
      },
    }),
    wait: {
      wait_id: wait.id,
      number: wait.number,
      status: wait.status,
      ...(wait.result === null ? {} : { result_json: wait.result }),
    },
  };
}

export function buildAssignment(build: ClaimedBuild): BuildAssignment {
  return {
    kind: "build",
    lease_id: build.lease_id,
    fencing: build.fencing,
    deployment_id: build.id,
    environment_id: build.environment_id,
    source_digest: build.source_digest,
    source_size_bytes: build.source_size_bytes,
  };
}

/** Extending is left out for a tenth of the time, and for a beat where the row is locked: the worker counts on less. */
const certainShare = 0.8;

export function materializationAssignment(
  copy: ClaimedMaterialization,
  lostAfterMs: number,
): MaterializationAssignment {
  const { base_version_id: versionId, manifest_digest: digest } = copy;
  return {
    kind: "materialization",
    lease_id: copy.lease_id,
    fencing: copy.fencing,
    materialization_id: copy.id,
    workspace_id: copy.workspace_id,
    environment_id: copy.environment_id,
    deployment_id: copy.deployment_id,
    workspace_is_here: copy.is_here,
    ...(copy.is_dirty ? { workspace_is_dirty: true } : {}),
    lease_duration_ms: Math.max(1, Math.floor(lostAfterMs * certainShare)),
    sandbox: copy.sandbox as BuiltSandbox,
    ...(versionId === null || digest === null
      ? {}
      : { base_version: { version_id: versionId, manifest_digest: digest } }),
  };
}
