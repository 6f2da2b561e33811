/** One worker with real guests against a scripted control plane, in a temporary folder. Needs root, runsc, the base image. */
import { randomUUID } from "node:crypto";
import { access, mkdtemp, readdir, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import type { BuildAssignment, BuiltSandbox, Catalog, RunAssignment } from "@helmr/api";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { createGvisorIsolation, type Isolation } from "@helmr/isolation";
import pino from "pino";
import { pack } from "tar-stream";
import { createWorker, type Worker, type WorkerOptions } from "../../src/index.ts";
import {
  type BuildOutcome,
  type LeaseRecord,
  type RunOutcome,
  ScriptedControlPlane,
} from "./control-plane.ts";

/** Where the runtime's installer keeps things (helmr dev installs them). */
export const cacheDir = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "helmr");

export async function installed(folder: string, file: string): Promise<string | undefined> {
  for (const version of (await readdir(join(cacheDir, folder)).catch(() => [])).sort().reverse()) {
    const path = join(cacheDir, folder, version, file);
    const found = await access(path).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

export const baseImage = "node:24-bookworm-slim";
export const extraCa = process.env.HELMR_GUEST_EXTRA_CA_CERTS;

export type Files = Readonly<Record<string, string>>;

export interface BuiltDeployment {
  readonly deploymentId: string;
  readonly environmentId: string;
  readonly sourceDigest: string;
  readonly catalog: Catalog;
  readonly sandboxes: ReadonlyMap<string, BuiltSandbox>;
}

export class Bench {
  readonly environmentId = randomUUID();
  readonly dir: string;
  readonly isolation: Isolation;
  readonly artifacts: ArtifactStore;
  readonly controlPlane: ScriptedControlPlane;
  readonly #worker: Worker;

  private constructor(
    parts: Pick<Bench, "dir" | "isolation" | "artifacts" | "controlPlane">,
    worker: Worker,
  ) {
    this.dir = parts.dir;
    this.isolation = parts.isolation;
    this.artifacts = parts.artifacts;
    this.controlPlane = parts.controlPlane;
    this.#worker = worker;
  }

  /** `dir`: the folder of an earlier bench that died; default a new one. */
  static async start(options: Partial<WorkerOptions> & { readonly dir?: string } = {}): Promise<Bench> {
    const runscPath = process.env.HELMR_RUNSC ?? (await installed("runsc", "runsc"));
    if (runscPath === undefined) throw new Error("no runsc: run npm run quickstart once, or set HELMR_RUNSC");
    const { dir = await mkdtemp(join(tmpdir(), "worker-")), ...workerOptions } = options;
    const logger = pino({ level: process.env.HELMR_TEST_LOG ?? "silent" });
    const isolation = createGvisorIsolation({
      runscPath,
      stateDir: join(dir, "isolation"),
      instanceName: "worker-test",
      logger,
      ...(extraCa === undefined ? {} : { extraCaCertificates: extraCa }),
    });
    const artifacts = await createFolderStore(join(dir, "artifacts"));
    const bunPath = await installed("bun", "bun");
    const controlPlane = new ScriptedControlPlane();
    const controlPlaneUrl = await controlPlane.start();
    const worker = createWorker({
      controlPlaneUrl,
      bootstrapToken: "hlmr_bt_test",
      name: "test",
      dataDir: join(dir, "worker"),
      isolation,
      artifacts,
      images: { imagesDir: join(cacheDir, "images"), baseImage },
      bunPath,
      capacity: { runs: 4, builds: 1, cpu: 16, memoryMib: 8192, diskMib: 1_000_000 },
      pool: { perSandbox: 0 },
      cancelGraceMs: 1_500,
      logger,
      ...workerOptions,
    });
    await worker.start();
    return new Bench({ dir, isolation, artifacts, controlPlane }, worker);
  }

  async stop(): Promise<void> {
    await this.#worker.stop();
    await this.isolation.close();
    await this.controlPlane.stop();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** Upload files as a deployment's source. */
  async upload(files: Files): Promise<{ digest: string; sizeBytes: number }> {
    const archive = pack();
    for (const [name, content] of Object.entries(files)) archive.entry({ name, mtime: new Date(0) }, content);
    archive.finalize();
    return this.artifacts.put(Readable.from([await buffer(archive)]), { maxBytes: 128 * 1024 * 1024 });
  }

  /** Have the source built; resolves with what the worker reported. */
  async build(
    files: Files,
    environmentId = this.environmentId,
  ): Promise<{ record: LeaseRecord; outcome: BuildOutcome; deployment: BuiltDeployment }> {
    const { digest, sizeBytes } = await this.upload(files);
    const deploymentId = randomUUID();
    const assignment: BuildAssignment = {
      kind: "build",
      lease_id: randomUUID(),
      fencing: 1,
      deployment_id: deploymentId,
      environment_id: environmentId,
      source_digest: digest,
      source_size_bytes: sizeBytes,
    };
    const record = this.controlPlane.build(assignment);
    const outcome = (await record.finished.promise) as BuildOutcome;
    const sandboxes = new Map(
      outcome.status === "built" ? outcome.sandboxes.map((entry) => [entry.sandbox_id, entry.built]) : [],
    );
    const catalog = outcome.status === "built" ? outcome.catalog : emptyCatalog;
    const deployment = {
      deploymentId,
      environmentId,
      sourceDigest: digest,
      catalog,
      sandboxes,
    };
    return { record, outcome, deployment };
  }

  /** As build, for sources that must build. */
  async deploy(files: Files): Promise<BuiltDeployment> {
    const { outcome, deployment, record } = await this.build(files);
    if (outcome.status !== "built")
      throw new Error(`${outcome.message}\n${outcome.output_tail ?? ""}\n${record.messages}`);
    return deployment;
  }

  /** Have a task of a deployment run. */
  run(
    deployment: BuiltDeployment,
    taskId: string,
    options: Partial<RunAssignment> = {},
  ): { record: LeaseRecord; outcome: Promise<RunOutcome> } {
    const task = deployment.catalog.tasks.find((entry) => entry.id === taskId);
    const sandbox = deployment.sandboxes.get(task?.sandbox_id ?? "");
    if (task === undefined || sandbox === undefined) throw new Error(`no task ${taskId} in the deployment`);
    const record = this.controlPlane.run({
      kind: "run",
      lease_id: randomUUID(),
      fencing: 1,
      run_id: randomUUID(),
      session_id: randomUUID(),
      environment_id: deployment.environmentId,
      workspace_id: randomUUID(),
      deployment_id: deployment.deploymentId,
      deployment_version: "20260606.1",
      source_digest: deployment.sourceDigest,
      attempt_id: randomUUID(),
      attempt_number: 1,
      task: { id: task.id, file_path: task.file_path, export_name: task.export_name },
      sandbox,
      payload_json: "{}",
      metadata_json: "{}",
      max_duration_seconds: task.max_duration_seconds,
      active_ms: 0,
      workspace_is_here: true,
      secrets: [],
      ...options,
    });
    return { record, outcome: record.finished.promise as Promise<RunOutcome> };
  }
}

const emptyCatalog: Catalog = { format: 2, project: "", tasks: [], queues: [], sandboxes: [], streams: [] };
