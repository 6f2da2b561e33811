/**
 * Executes one leased build: source, dependencies, catalog, images, report.
 *
 * | phase        | does                                                   | failure kind        |
 * |--------------|--------------------------------------------------------|---------------------|
 * | source       | unpacks the upload, reads package.json                 | source              |
 * | dependencies | installs them in the build guest                       | dependencies        |
 * | index        | loads config and task modules there, checks the catalog| index               |
 * | image <id>   | every step of every sandbox's image, then its node     | image_preparation   |
 *
 *  I1  Nothing of the author's runs on the host: only guests execute it.
 *  I2  After a lost lease nothing is reported; after any end the build's folder is gone.
 *  I3  The source is unpacked at most once, and only when a step needs it: the same source deployed again, its catalog and
 *      layers still here, costs nothing of its size (docs/decisions/0005).
 */
import { randomUUID } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { BuildAssignment, BuiltSandbox, Catalog, CatalogSandbox } from "@helmr/api";
import type { ArtifactStore } from "@helmr/artifacts";
import { pullImage, resolveImage, type StoredImage } from "@helmr/artifacts/images";
import {
  type Isolation,
  type IsolationCapabilities,
  IsolationError,
  recoverDisks,
  removeTree,
  unmountBelow,
} from "@helmr/isolation";
import type { Logger } from "pino";
import { BuildEvents } from "./build-events.ts";
import { type BuildGuard, guardBuild } from "./build-guard.ts";
import { installAndIndex } from "./build-guest.ts";
import { type PreparedSource, prepareSource } from "./build-source.ts";
import type { CacheFolders } from "./caches.ts";
import type { CatalogCache, CatalogInputs, CopyInputs } from "./catalog-cache.ts";
import { type BuildReport, type ControlPlaneClient, LeaseLostError } from "./control-plane-client.ts";
import { BuildFailure, headOf, messageOf, tailOf } from "./failure.ts";
import type { Heartbeats } from "./heartbeats.ts";
import type { HeldBuild } from "./held-work.ts";
import type { ImageBuildContext, ImageState, PreparedBuild } from "./image-builder/build-context.ts";
import { buildImage, secretNames } from "./image-builder/image-builder.ts";
import { keyOf } from "./image-builder/layer-key.ts";
import { baseReferenceOf, type LayerStore } from "./image-builder/layer-store.ts";
import { checkNode } from "./image-builder/node-check.ts";
import { resolveImageUser } from "./image-user.ts";
import { Redactor } from "./redact.ts";
import { type GuestKind, guestKind } from "./run-guest.ts";
import { writeRegistryConfig } from "./sdk-access.ts";
import type { RegistryAccess, SdkRegistry } from "./sdk-registry.ts";

export interface BuildExecutorOptions {
  readonly client: ControlPlaneClient;
  readonly heartbeats: Heartbeats;
  readonly isolation: Isolation;
  readonly capabilities: IsolationCapabilities;
  readonly artifacts: ArtifactStore;
  readonly layers: LayerStore;
  readonly caches: CacheFolders;
  readonly catalogs: CatalogCache;
  readonly sdkRegistry: SdkRegistry;
  readonly imagesDir: string;
  readonly baseImage: string;
  readonly bundleDir: string;
  readonly bunPath: string | undefined;
  readonly bunVersion: string | undefined;
  /** Folders `<lease id>` of builds at work; and what is remembered of images' nodes. */
  readonly buildsDir: string;
  readonly nodeChecksDir: string;
  readonly workerKey: Buffer;
  readonly networkDeny: readonly string[];
  readonly resources: { readonly cpu: number; readonly memoryMib: number };
  /** A sandbox that asks for more is refused: its guests could take the whole host. */
  readonly largestSandbox: { readonly memoryMib: number; readonly diskMib: number };
  /** A deployment was built: guests of its sandboxes will be wanted. */
  readonly onBuilt: (kinds: readonly GuestKind[]) => void;
  readonly logger: Logger;
}

const buildDiskMib = 8 * 1024;

/** Remove what a dead worker's builds left. */
export async function recoverBuilds(buildsDir: string): Promise<void> {
  await mkdir(buildsDir, { recursive: true, mode: 0o700 });
  await unmountBelow(buildsDir);
  await recoverDisks(buildsDir);
  await removeTree(buildsDir);
  await mkdir(buildsDir, { recursive: true, mode: 0o700 });
}

export class BuildExecutor {
  readonly #options: BuildExecutorOptions;
  readonly #executions = new Set<Execution>();
  readonly #ends = { finished: 0, handed_back: 0 };

  constructor(options: BuildExecutorOptions) {
    this.#options = options;
  }

  /** Runs to the end; never rejects for reasons of the build. `signal`: the worker stops now. */
  async execute(build: BuildAssignment, signal: AbortSignal): Promise<void> {
    const execution = new Execution(build, this.#options, signal);
    this.#executions.add(execution);
    try {
      await execution.run();
    } finally {
      this.#executions.delete(execution);
      if (execution.isHandedBack) this.#ends.handed_back += 1;
      else this.#ends.finished += 1;
    }
  }

  /** Builds at work here. */
  get held(): HeldBuild[] {
    return Array.from(this.#executions, (execution) => execution.held);
  }

  get ends(): { readonly finished: number; readonly handed_back: number } {
    return { ...this.#ends };
  }

  /** Whatever is not built yet is ended here, and built anew elsewhere. */
  handBack(): void {
    for (const execution of this.#executions) execution.handBack();
  }
}

interface CatalogSource {
  readonly base: StoredImage;
  readonly cached: CatalogInputs;
}

class Execution {
  readonly #build: BuildAssignment;
  readonly #options: BuildExecutorOptions;
  readonly #logger: Logger;
  readonly #events: BuildEvents;
  readonly #abort = new AbortController();
  readonly #dir: string;
  readonly #sourceDir: string;
  #guard: BuildGuard | undefined;
  readonly #leasedAt = performance.now();
  isHandedBack = false;
  /** Ends the build's work, which is reported as one to try again. */
  readonly #handBack = new AbortController();
  #prepared: Promise<PreparedBuild & { readonly source: PreparedSource }> | undefined;
  #access: RegistryAccess | undefined;
  #redactor = new Redactor([]);

  constructor(build: BuildAssignment, options: BuildExecutorOptions, workerStops: AbortSignal) {
    this.#build = build;
    this.#options = options;
    this.#dir = join(options.buildsDir, randomUUID().slice(0, 13));
    this.#sourceDir = join(this.#dir, "source");
    this.#logger = options.logger.child({ deployment_id: build.deployment_id, lease_id: build.lease_id });
    this.#events = new BuildEvents({
      send: (items) => options.client.buildEvents(build.lease_id, build.fencing, items, this.#abort.signal),
      onFailure: (error) => this.#onReportFailure(error),
    });
    workerStops.addEventListener("abort", () => this.#abort.abort(new Error("the worker stops")), {
      once: true,
    });
  }

  get held(): HeldBuild {
    const ageMs = Math.round(performance.now() - this.#leasedAt);
    return { deploymentId: this.#build.deployment_id, ageMs };
  }

  handBack(): void {
    const message = "deployment build: ended because its worker is drained; it is built anew elsewhere";
    this.#handBack.abort(new BuildFailure("worker", message, { step: "limits", retryable: true }));
  }

  async run(): Promise<void> {
    const { heartbeats, client } = this.#options;
    const { lease_id: leaseId, fencing } = this.#build;
    const lost = () => this.#abort.abort(new LeaseLostError("the build's lease is lost"));
    heartbeats.hold({ leaseId, fencing, onLost: lost, onCancel: lost });
    try {
      const outcome = await this.#outcome();
      await this.#events.flush();
      if (this.#abort.signal.aborted) return; // I2
      await client.finishBuild(leaseId, fencing, outcome, this.#abort.signal);
    } catch (error) {
      this.#onReportFailure(error);
    } finally {
      heartbeats.release(leaseId);
      await this.#cleanUp();
    }
  }

  async #outcome(): Promise<BuildReport> {
    try {
      return await this.#execute();
    } catch (error) {
      this.isHandedBack = this.#handBack.signal.aborted;
      const cause = this.isHandedBack ? this.#handBack.signal.reason : error;
      if (!this.#abort.signal.aborted) this.#logger.info({ reason: messageOf(cause) }, "build failed");
      return this.#redactor.value(reportOfFailure(cause));
    }
  }

  async #execute(): Promise<BuildReport> {
    await mkdir(this.#dir, { recursive: true, mode: 0o755 });
    this.#guard = guardBuild(this.#dir);
    try {
      const inputs = await this.#catalogInputs();
      const catalog = await this.#catalog(inputs);
      const sandboxes = await this.#buildSandboxes(catalog, inputs.cached);
      this.#options.onBuilt(sandboxes.map(({ built }) => guestKind({ ...this.#build, sandbox: built })));
      return { status: "built", catalog, sandboxes };
    } finally {
      this.#access?.close();
    }
  }

  /** I3 */
  #prepare(): Promise<PreparedBuild & { readonly source: PreparedSource }> {
    this.#prepared ??= this.#unpack();
    return this.#prepared;
  }

  async #unpack(): Promise<PreparedBuild & { readonly source: PreparedSource }> {
    const { artifacts, sdkRegistry } = this.#options;
    this.#events.step("source: unpacking", { phase: "source" });
    const source = await prepareSource(
      artifacts,
      this.#build.source_digest,
      this.#sourceDir,
      sdkRegistry.ownVersion,
    );
    this.#sayManager(source);
    this.#access = sdkRegistry.open(source.specs);
    const registry = await writeRegistryConfig(join(this.#dir, "registry"), this.#access, sdkRegistry);
    return { source, registry, sourceDir: this.#sourceDir };
  }

  /** Ends the build's work: the lease is lost, the worker stops, or a limit of the whole build is reached. */
  get #signal(): AbortSignal {
    const signals = [this.#abort.signal, this.#handBack.signal];
    return AbortSignal.any(this.#guard === undefined ? signals : [...signals, this.#guard.signal]);
  }

  #sayManager({ manager }: PreparedSource): void {
    const { bunVersion } = this.#options;
    const used = manager.name === "bun" ? bunVersion : undefined;
    if (used === undefined || manager.version === undefined || manager.version === used) return;
    this.#events.warn(
      `packageManager asks for ${manager.name}@${manager.version}; ${manager.name}@${used} of this worker is used`,
    );
  }

  async #catalogInputs(): Promise<CatalogSource> {
    const { baseImage, imagesDir, bundleDir, bunVersion } = this.#options;
    const signal = this.#signal;
    const base =
      (await resolveImage(imagesDir, baseImage)) ?? (await pullImage(baseImage, imagesDir, { signal }));
    const cached = {
      environmentId: this.#build.environment_id,
      sourceDigest: this.#build.source_digest,
      guestBundle: await readFile(join(bundleDir, "DIGEST"), "utf8"),
      base: base.digest,
      bunVersion,
    };
    return { base, cached };
  }

  async #catalog({ base, cached }: CatalogSource): Promise<Catalog> {
    const { catalogs } = this.#options;
    const known = await catalogs.find(cached);
    if (known !== undefined) {
      this.#events.step("dependencies and index: this source was built before (cached)", { phase: "index" });
      return known;
    }
    const catalog = await this.#installAndIndex(base);
    await catalogs.keep(cached, catalog);
    return catalog;
  }

  async #installAndIndex(base: StoredImage): Promise<Catalog> {
    const { isolation, bundleDir, bunPath, caches, layers, capabilities, resources, networkDeny } =
      this.#options;
    const { source, registry, sourceDir } = await this.#prepare();
    return installAndIndex(
      {
        isolation,
        bundleDir,
        bunPath,
        caches,
        registry,
        networkDeny,
        signal: this.#signal,
        root: await layers.root([baseReferenceOf(base)]),
        path: base.env.PATH ?? "/usr/local/bin:/usr/bin:/bin",
        scratchDir: this.#dir,
        sourceDir,
        environmentId: this.#build.environment_id,
        loopDevices: capabilities.limits.disk,
        resources: { ...resources, diskMib: buildDiskMib },
        events: this.#events,
      },
      source,
    );
  }

  async #buildSandboxes(catalog: Catalog, cached: CatalogInputs) {
    const secrets = await this.#secretValues(catalog.sandboxes);
    const known = await this.#options.catalogs.findCopies(cached);
    const copies: Record<string, CopyInputs> = { ...known };
    const describeCopy: ImageBuildContext["describeCopy"] = async (what, describe) => {
      const inputs = copies[what] ?? (await describe());
      copies[what] = inputs;
      return inputs;
    };
    const sandboxes: { sandbox_id: string; fingerprint: string; built: BuiltSandbox }[] = [];
    for (const definition of catalog.sandboxes) {
      const built = await this.#buildSandbox(definition, describeCopy, secrets);
      const fingerprint = `sha256:${keyOf({ definition, image: built.image.digest })}`;
      sandboxes.push({ sandbox_id: definition.id, fingerprint, built });
    }
    if (Object.keys(copies).length > Object.keys(known).length)
      await this.#options.catalogs.keepCopies(cached, copies);
    return sandboxes;
  }

  async #secretValues(sandboxes: readonly CatalogSandbox[]): Promise<ReadonlyMap<string, string>> {
    const names = [...new Set(sandboxes.flatMap((sandbox) => secretNames(sandbox.image)))];
    if (names.length === 0) return new Map();
    const { values } = await this.#options.client.buildSecrets(
      this.#build.lease_id,
      this.#build.fencing,
      names,
      this.#abort.signal,
    );
    this.#redactor = new Redactor(Object.entries(values));
    return new Map(Object.entries(values));
  }

  async #buildSandbox(
    definition: CatalogSandbox,
    describeCopy: ImageBuildContext["describeCopy"],
    secrets: ReadonlyMap<string, string>,
  ): Promise<BuiltSandbox> {
    const { layers, isolation, nodeChecksDir } = this.#options;
    this.#refuseTooLarge(definition);
    if (definition.network.allow.length > 0) {
      throw new BuildFailure(
        "image_preparation",
        `deployment build: sandbox ${definition.id}: network({ internet: { allow } }) is not supported; use deny, or internet: false`,
        { step: `sandbox ${definition.id}` },
      );
    }
    const label = `image ${definition.image.id} (sandbox ${definition.id})`;
    const state = await buildImage(
      this.#imageContext(definition, describeCopy, secrets),
      definition.image,
      label,
    );
    const root = await layers.root(state.layers);
    await this.#checkUser(root.path, state, label);
    this.#events.step(`${label}: checking node`, { phase: "image", sandbox_id: definition.id });
    const version = await checkNode(isolation, { root, env: state.env, label }, nodeChecksDir, this.#signal);
    this.#events.step(`${label}: ready, node ${version}`, { phase: "image", sandbox_id: definition.id });
    const { env, user, workdir } = state;
    const image = { layers: [...state.layers], env: { ...env }, user, workdir };
    const digest = `sha256:${keyOf(image)}`;
    return { definition, image: { ...image, layers: await layers.share(state.layers), digest } };
  }

  #refuseTooLarge({ id, resources }: CatalogSandbox): void {
    const { memoryMib, diskMib } = this.#options.largestSandbox;
    const problems = [
      ...(resources.memory_mib > memoryMib
        ? [`${resources.memory_mib} MiB of memory; this worker gives at most ${memoryMib}`]
        : []),
      ...(resources.disk_mib > diskMib
        ? [`${resources.disk_mib} MiB of disk; this worker gives at most ${diskMib}`]
        : []),
    ];
    if (problems.length === 0) return;
    throw new BuildFailure(
      "image_preparation",
      `deployment build: sandbox ${id} asks for ${problems.join(", and for ")}: lower its resources({ ... })`,
      { step: `sandbox ${id}` },
    );
  }

  async #checkUser(root: string, state: ImageState, label: string): Promise<void> {
    await resolveImageUser(root, state.user).catch((error: unknown) => {
      throw new BuildFailure("image_preparation", `image preparation: ${label}: ${messageOf(error)}`, {
        step: `${label}: user`,
        cause: error,
      });
    });
  }

  #imageContext(
    definition: CatalogSandbox,
    describeCopy: ImageBuildContext["describeCopy"],
    secrets: ReadonlyMap<string, string>,
  ): ImageBuildContext {
    const { isolation, layers, imagesDir, caches, workerKey, networkDeny, resources } = this.#options;
    return {
      isolation,
      layers,
      imagesDir,
      caches,
      workerKey,
      networkDeny,
      prepare: () => this.#prepare(),
      describeCopy,
      secrets,
      environmentId: this.#build.environment_id,
      scratchDir: this.#dir,
      network: definition.network,
      resources: { ...resources, diskMib: buildDiskMib },
      signal: this.#signal,
      logger: this.#logger,
      onStep: (text, attributes) =>
        this.#events.step(this.#redactor.text(text), {
          phase: "image",
          sandbox_id: definition.id,
          ...attributes,
        }),
      onOutput: (line) =>
        this.#events.output(this.#redactor.text(line), { phase: "image", sandbox_id: definition.id }),
    };
  }

  #onReportFailure(error: unknown): void {
    if (this.#abort.signal.aborted) return;
    this.#logger.warn({ reason: messageOf(error) }, "reporting failed; the build is dropped");
    this.#abort.abort(error);
  }

  async #cleanUp(): Promise<void> {
    this.#guard?.stop();
    try {
      await unmountBelow(this.#dir);
      await removeTree(this.#dir);
    } catch (error) {
      this.#logger.warn(
        { reason: messageOf(error) },
        "the build's folder was not removed; the next start does it",
      );
    }
  }
}

function reportOfFailure(error: unknown): BuildReport {
  if (error instanceof BuildFailure) {
    return {
      status: "failed",
      failure_kind: error.kind,
      message: headOf(error.message, 19_000),
      ...(error.step === undefined ? {} : { step: headOf(error.step, 400) }),
      ...(error.outputTail === undefined ? {} : { output_tail: tailOf(error.outputTail, 16 * 1024) }),
      retryable: error.retryable,
    };
  }
  const layer = error instanceof IsolationError ? "guest runtime" : "worker";
  return {
    status: "failed",
    failure_kind: "worker_failed",
    message: headOf(`deployment build: ${layer}: ${messageOf(error)}`, 19_000),
    retryable: true,
  };
}
