/**
 * A control plane and a dispatcher on a real PostgreSQL, and workers with real guests that share nothing but the object
 * store. Needs root, runsc, the base image.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { apiKeyScopes } from "@helmr/api";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { parseArchiveKeys } from "@helmr/artifacts/archive";
import { createControlPlane } from "@helmr/control-plane";
import { createMemoryBus, type LiveBus } from "@helmr/coordination";
import { createDispatcher } from "@helmr/dispatcher";
import { createGvisorIsolation, type Isolation } from "@helmr/isolation";
import {
  appendInput,
  completeToken,
  createApiKey,
  createSecretCipher,
  type Database,
  ensureBootstrapToken,
  listRunEvents,
} from "@helmr/store";
import { type SeededEnvironment, seedEnvironment, startTestDatabase } from "@helmr/store/testing";
import pino from "pino";
import { pack } from "tar-stream";
import { vi } from "vitest";
import { createWorker, type Worker, type WorkerOptions } from "../../src/index.ts";
import { artifactKeys } from "./artifact-keys.ts";
import { baseImage, cacheDir, extraCa, type Files, installed } from "./bench.ts";

const limit = { timeout: 120_000, interval: 20 };
export const bootstrapToken = `hlmr_bt_${"p".repeat(43)}`;

export interface RunEvent {
  readonly seq: number;
  readonly kind: string;
  readonly lease: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests read attributes of any shape
  readonly attributes: any;
}

export interface StartedRun {
  readonly runId: string;
  readonly sessionId: string;
}

/** What a worker process needs to join a system; JSON. */
export interface WorkerSettings {
  readonly controlPlaneUrl: string;
  readonly dir: string;
  readonly artifactsDir: string;
  readonly key: string;
  readonly parkAfterMs: number;
}

interface SystemWorkerOptions {
  readonly dir?: string;
  readonly key?: string;
  readonly wrapIsolation?: (isolation: Isolation) => Isolation;
  readonly wrapArtifacts?: (artifacts: ArtifactStore) => ArtifactStore;
}

/** What a system's control plane is made with. */
export interface PartsSettings {
  /** Of the system: for what the parts keep. */
  readonly dir: string;
  readonly artifactsDir: string;
  readonly artifacts: ArtifactStore;
  readonly bus: LiveBus;
  readonly leaseDurationMs: number;
}

interface SystemParts {
  readonly db: Database;
  readonly url: string;
  stop(): Promise<void>;
}

interface SystemOptions {
  /** Default: a folder, sealed. Workers take the same where `wrapArtifacts` says so. */
  readonly openArtifacts?: (dir: string) => Promise<ArtifactStore>;
  readonly leaseDurationMs?: number;
  /** Default: a control plane in this process on a clone in the tests' PostgreSQL. */
  readonly parts?: (settings: PartsSettings) => Promise<SystemParts>;
}

async function startPartsHere({ artifacts, bus, leaseDurationMs }: PartsSettings): Promise<SystemParts> {
  const database = await startTestDatabase();
  const { db } = database;
  const controlPlane = createControlPlane({
    db,
    bus,
    artifacts,
    secretCipher: createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") }),
    authSecret: Buffer.alloc(32, 9),
    config: { publicUrl: "http://127.0.0.1" },
    workerTimings: { leaseDurationMs, heartbeatIntervalMs: 100, heartbeatHoldMs: 500 },
    logger: pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }),
  });
  const url = await controlPlane.listen({ host: "127.0.0.1", port: 0 });
  const stop = async () => {
    await controlPlane.close();
    await database.stop();
  };
  return { db, url, stop };
}

export interface SystemWorker {
  readonly worker: Worker;
  readonly isolation: Isolation;
  readonly dir: string;
  stop(): Promise<void>;
}

/** A worker on a folder of its own; `options` change what it is made with. */
export async function startSystemWorker(
  settings: WorkerSettings,
  { wrapIsolation, wrapArtifacts, ...options }: Partial<WorkerOptions> & SystemWorkerOptions = {},
): Promise<SystemWorker> {
  const runscPath = process.env.HELMR_RUNSC ?? (await installed("runsc", "runsc"));
  if (runscPath === undefined) throw new Error("no runsc: run npm run quickstart once, or set HELMR_RUNSC");
  const { dir } = settings;
  const logger = pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }, pino.destination(2));
  const isolation = createGvisorIsolation({
    runscPath,
    stateDir: join(dir, "isolation"),
    instanceName: "parking",
    logger,
    ...(extraCa === undefined ? {} : { extraCaCertificates: extraCa }),
  });
  const artifacts = createFolderStore(settings.artifactsDir, { keys: artifactKeys });
  const worker = createWorker({
    controlPlaneUrl: settings.controlPlaneUrl,
    bootstrapToken,
    name: "parking",
    dataDir: join(dir, "worker"),
    isolation: wrapIsolation?.(isolation) ?? isolation,
    artifacts: wrapArtifacts?.(artifacts) ?? artifacts,
    images: { imagesDir: join(cacheDir, "images"), baseImage },
    bunPath: undefined,
    capacity: { runs: 8, builds: 1, cpu: 32, memoryMib: 16_384, diskMib: 1_000_000 },
    pool: { perSandbox: 0 },
    cancelGraceMs: 1_500,
    checkpointKeys: parseArchiveKeys({ current: settings.key }),
    parkAfterMs: settings.parkAfterMs,
    logger,
    ...options,
  });
  const stop = async () => {
    await worker.stop();
    await isolation.close();
  };
  try {
    await worker.start();
  } catch (error) {
    await stop();
    throw error;
  }
  return { worker, isolation, dir, stop };
}

export class System {
  readonly dir: string;
  readonly db: Database;
  readonly url: string;
  readonly artifactsDir: string;
  readonly artifacts: ArtifactStore;
  readonly environment: SeededEnvironment;
  readonly key = randomBytes(32).toString("base64");
  readonly #apiKey: string;
  readonly #bus: LiveBus;
  readonly #parts: AsyncDisposableStack;
  readonly #workers = new Set<SystemWorker>();

  private constructor(
    fields: Pick<System, "dir" | "db" | "url" | "artifactsDir" | "artifacts" | "environment">,
    apiKey: string,
    bus: LiveBus,
    parts: AsyncDisposableStack,
  ) {
    this.dir = fields.dir;
    this.db = fields.db;
    this.url = fields.url;
    this.artifactsDir = fields.artifactsDir;
    this.artifacts = fields.artifacts;
    this.environment = fields.environment;
    this.#apiKey = apiKey;
    this.#bus = bus;
    this.#parts = parts;
  }

  static async start(options: SystemOptions = {}): Promise<System> {
    const { leaseDurationMs = 30_000, parts: startParts = startPartsHere } = options;
    await using cleanup = new AsyncDisposableStack();
    const dir = await mkdtemp(join(tmpdir(), "parking-"));
    cleanup.defer(() => rm(dir, { recursive: true, force: true }));
    const bus = createMemoryBus();
    cleanup.defer(() => bus.close());
    const artifactsDir = join(dir, "artifacts");
    const artifacts =
      (await options.openArtifacts?.(dir)) ?? createFolderStore(artifactsDir, { keys: artifactKeys });
    const logger = pino({ level: process.env.HELMR_TEST_LOG ?? "silent" });
    const parts = await startParts({ dir, artifactsDir, artifacts, bus, leaseDurationMs });
    cleanup.defer(() => parts.stop());
    const { db, url } = parts;
    const dispatcher = createDispatcher({
      db,
      bus,
      artifacts,
      logger,
      intervals: { removeArtifactsMs: 100, artifactGraceMs: 0 },
    });
    dispatcher.start();
    cleanup.defer(() => dispatcher.stop());
    const environment = await seedEnvironment(db);
    await ensureBootstrapToken(db, bootstrapToken);
    const { rawKey } = await createApiKey(db, environment.scope, {
      name: "test",
      scopes: apiKeyScopes,
    });
    const fields = { dir, db, url, artifactsDir, artifacts, environment };
    return new System(fields, rawKey, bus, cleanup.move());
  }

  /** Stops its workers first. */
  async stop(): Promise<void> {
    await this.stopWorkers();
    await this.#parts.disposeAsync();
  }

  async stopWorkers(): Promise<void> {
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
  }

  settings(dir: string, parkAfterMs: number): WorkerSettings {
    const { artifactsDir, key, url } = this;
    return { controlPlaneUrl: url, dir, artifactsDir, key, parkAfterMs };
  }

  async newDir(): Promise<string> {
    return await mkdtemp(join(this.dir, "w-"));
  }

  async worker(options: Partial<WorkerOptions> & SystemWorkerOptions = {}): Promise<SystemWorker> {
    const { dir = await this.newDir(), key = this.key, parkAfterMs = 100, ...rest } = options;
    const started = await startSystemWorker({ ...this.settings(dir, parkAfterMs), key }, rest);
    const worker: SystemWorker = {
      ...started,
      stop: async () => {
        this.#workers.delete(worker);
        await started.stop();
      },
    };
    this.#workers.add(worker);
    return worker;
  }

  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape
  async request(method: string, path: string, body?: unknown): Promise<any> {
    const response = await fetch(`${this.url}/api${path}`, {
      method,
      headers: {
        authorization: `Bearer ${this.#apiKey}`,
        ...(body === undefined || body instanceof FormData ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  }

  /** Upload, have it built by whichever worker, and made current. */
  async deploy(files: Files): Promise<string> {
    const archive = pack();
    for (const [name, content] of Object.entries(files)) archive.entry({ name, mtime: new Date(0) }, content);
    archive.finalize();
    const bytes = new Uint8Array(await buffer(archive as unknown as Readable));
    const form = new FormData();
    const hash = createHash("sha256").update(bytes).digest("hex");
    form.append("metadata", JSON.stringify({ project_id: "", content_hash: `sha256:${hash}` }));
    form.append("deployment_source", new Blob([bytes]), "deployment-source.tar");
    const created = await this.request("POST", "/deployments", form);
    const { id } = created.deployment ?? created;
    const built = await vi.waitUntil(async () => {
      const answer = await this.request("GET", `/deployments/${id}`);
      const deployment = answer.deployment ?? answer;
      return ["deployed", "failed"].includes(deployment.status) ? deployment : undefined;
    }, limit);
    if (built.status === "failed") throw new Error(`the build failed: ${JSON.stringify(built)}`);
    await this.request("POST", `/deployments/${id}/promote`, {});
    return id;
  }

  async run(
    taskId: string,
    payload: unknown = {},
    options: Record<string, unknown> = {},
  ): Promise<StartedRun> {
    const { run, session } = await this.request("POST", "/sessions", {
      task_id: taskId,
      payload,
      ...options,
    });
    return { runId: run.id, sessionId: session.id };
  }

  async events({ runId }: StartedRun): Promise<RunEvent[]> {
    const rows = await listRunEvents(this.db, this.environment.scope, runId, { after: 0, limit: 1000 });
    return rows.map(({ seq, kind, run_lease_id: lease, attributes }) => ({
      seq: Number(seq),
      kind,
      lease,
      attributes,
    }));
  }

  /** Completes the token; hints go as a request's would. */
  async complete(tokenId: string, value: unknown): Promise<void> {
    const done = await completeToken(this.db, this.environment.scope, tokenId, {
      dataJson: JSON.stringify(value),
    });
    this.#tell(done.resolved);
  }

  async send({ sessionId }: StartedRun, stream: string, value: unknown): Promise<void> {
    const data = JSON.stringify(value);
    const sent = await appendInput(this.db, this.environment.scope, { id: sessionId }, stream, { data });
    this.#tell(sent?.resolved ?? []);
  }

  async records({ sessionId }: StartedRun, stream: string): Promise<{ sequence: number; data: unknown }[]> {
    const rows = await this.db
      .selectFrom("stream_records as r")
      .innerJoin("session_streams as s", "s.id", "r.stream_id")
      .select(["r.sequence", "r.data"])
      .where("s.session_id", "=", sessionId)
      .where("s.name", "=", stream)
      .orderBy("r.sequence")
      .execute();
    return rows.map(({ sequence, data }) => ({ sequence: Number(sequence), data }));
  }

  /** All waits of the run, oldest first. */
  async waits({ runId }: StartedRun) {
    const waits = this.db.selectFrom("run_waits").selectAll().where("run_id", "=", runId);
    return await waits.orderBy("created_at").execute();
  }

  /** The token that the run waits for. */
  async awaitedToken(run: StartedRun, number = 1): Promise<string> {
    return await this.until(async () => {
      const waits = (await this.waits(run)).filter(({ kind }) => kind === "token");
      return waits[number - 1]?.token_id ?? undefined;
    });
  }

  #tell(resolved: readonly { readonly runId: string; readonly workerInstanceId: string | null }[]): void {
    for (const { runId, workerInstanceId } of resolved) {
      this.#bus.publish(`run:${runId}`);
      this.#bus.publish(workerInstanceId === null ? "work:default" : `waits:${workerInstanceId}`);
    }
  }

  async kinds(run: StartedRun): Promise<string[]> {
    return (await this.events(run)).map(({ kind }) => kind);
  }

  /** The row of the run, for what the API does not show. */
  async row({ runId }: StartedRun) {
    return await this.db.selectFrom("runs").selectAll().where("id", "=", runId).executeTakeFirstOrThrow();
  }

  async until<T>(found: () => Promise<T | undefined | false>): Promise<T> {
    return (await vi.waitUntil(found, limit)) as T;
  }

  async parked(run: StartedRun, times = 1): Promise<void> {
    try {
      await this.until(async () => {
        const row = await this.row(run);
        if (row.status === "failed") throw new Error(JSON.stringify(row.failure_detail));
        const kinds = await this.kinds(run);
        return (
          row.execution_status === "parked" && kinds.filter((kind) => kind === "run.parked").length >= times
        );
      });
    } catch (cause) {
      throw new Error(`not parked: ${JSON.stringify(await this.events(run))}`, { cause });
    }
  }

  /** The run's end; its output when it succeeded. */
  // biome-ignore lint/suspicious/noExplicitAny: outputs of any shape
  async finished(run: StartedRun): Promise<{ status: string; output: any; failure: any }> {
    try {
      return await this.until(async () => {
        const { status, output, failure_detail: failure, failure_kind: kind } = await this.row(run);
        const isOver = ["succeeded", "failed", "cancelled", "expired"].includes(status);
        return (
          isOver && {
            status,
            output: output === null ? null : JSON.parse(output),
            failure: failure && { kind, ...(failure as object) },
          }
        );
      });
    } catch (cause) {
      throw new Error(`not finished: ${JSON.stringify(await this.events(run))}`, { cause });
    }
  }

  async stdout({ runId }: StartedRun): Promise<string> {
    const rows = await this.db
      .selectFrom("run_logs")
      .select("content")
      .where("run_id", "=", runId)
      .where("stream", "=", "stdout")
      .orderBy("seq")
      .execute();
    return Buffer.concat(rows.map(({ content }) => content)).toString();
  }

  /** Digests of all that is in the object store, but what belongs to versions of workspaces. */
  async stored(): Promise<string[]> {
    const names = await readdir(join(this.artifactsDir, "sha256"), { recursive: true });
    const digests = names.flatMap((name) => /[0-9a-f]{64}$/.exec(name) ?? []).map((hex) => `sha256:${hex}`);
    const reserved = await this.db.selectFrom("artifact_reservations").select("digest").execute();
    const ofVersions = await this.db.selectFrom("workspace_version_artifacts").select("digest").execute();
    const isAccountedFor = new Set([...reserved, ...ofVersions].map(({ digest }) => digest));
    return digests.filter((digest) => !isAccountedFor.has(digest));
  }
}

/** Mounts below the folder. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return table
    .split("\n")
    .flatMap((line) => line.split(" ")[4] ?? [])
    .filter((target) => target.startsWith(`${folder}/`));
}

export async function processesNaming(text: string): Promise<string[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")),
  );
  return lines.filter((line) => line.includes(text)).map((line) => line.replaceAll("\0", " "));
}
