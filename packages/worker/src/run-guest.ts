/** What a run's guest consists of: the specification for a sandbox, and a session with its disk and source. */
import { randomUUID } from "node:crypto";
import type { BuiltSandbox, MaterializationAssignment, RunAssignment } from "@helmr/api";
import { agentArgv, agentEnvironment } from "@helmr/guest";
import { guestPaths } from "@helmr/guest-protocol";
import type { GuestSpec, Isolation } from "@helmr/isolation";
import type { WorkerMetrics } from "@helmr/telemetry";
import { type GuestSession, startGuestSession } from "./guest-session.ts";
import { keyOf } from "./image-builder/layer-key.ts";
import type { LayerStore } from "./image-builder/layer-store.ts";
import { imageHasShell, resolveImageUser } from "./image-user.ts";
import type { SourceCache } from "./source-cache.ts";
import type { DiskSpec, MountedDisk, Workspaces } from "./workspaces.ts";

/** Everything that decides whether a pooled guest fits a run. */
export interface GuestKind {
  readonly key: string;
  readonly environmentId: string;
  readonly deploymentId: string;
  /** Of the task's source; undefined: a guest for operators alone. */
  readonly sourceDigest: string | undefined;
  readonly sandbox: BuiltSandbox;
}

export function guestKind(
  run: Pick<RunAssignment, "environment_id" | "deployment_id" | "source_digest" | "sandbox">,
): GuestKind {
  const { definition, image } = run.sandbox;
  return {
    key: keyOf([run.deployment_id, run.source_digest, definition, image]),
    environmentId: run.environment_id,
    deploymentId: run.deployment_id,
    sourceDigest: run.source_digest,
    sandbox: run.sandbox,
  };
}

/** A guest without a task. */
export function copyKind({
  environment_id: environmentId,
  deployment_id: deploymentId,
  sandbox,
}: Pick<MaterializationAssignment, "environment_id" | "deployment_id" | "sandbox">): GuestKind {
  const key = keyOf([deploymentId, "", sandbox.definition, sandbox.image]);
  return { key, environmentId, deploymentId, sourceDigest: undefined, sandbox };
}

export interface RunGuest {
  readonly kind: GuestKind;
  readonly session: GuestSession;
  readonly disk: MountedDisk;
  readonly startMs: number;
  /** Kill the guest, then let go of source and disk mount (the disk itself stays). */
  dispose(): Promise<void>;
}

export interface RunGuestOptions {
  readonly isolation: Isolation;
  readonly layers: LayerStore;
  readonly sources: SourceCache;
  readonly workspaces: Workspaces;
  /** Folder of buildGuestBundle. */
  readonly bundleDir: string;
  readonly networkDeny: readonly string[];
  readonly metrics?: WorkerMetrics | undefined;
}

const maxProcesses = 2048;
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Starts guests for runs; `openDisk` decides whose disk is mounted as the workspace. */
export class RunGuests {
  readonly #options: RunGuestOptions;

  constructor(options: RunGuestOptions) {
    this.#options = options;
  }

  async start(
    kind: GuestKind,
    openDisk: (spec: DiskSpec) => Promise<MountedDisk>,
    signal?: AbortSignal,
  ): Promise<RunGuest> {
    const { isolation, metrics } = this.#options;
    const guest = await this.#begin(kind, openDisk, (spec) =>
      startGuestSession(isolation, spec, signal === undefined ? {} : { signal }),
    );
    metrics?.guestStart.observe(guest.startMs / 1000);
    return guest;
  }

  /** `restore` gets the specification of the new guest, whose workspace is mounted. */
  restore(
    kind: GuestKind,
    openDisk: (spec: DiskSpec) => Promise<MountedDisk>,
    restore: (spec: GuestSpec) => Promise<GuestSession>,
  ): Promise<RunGuest> {
    return this.#begin(kind, openDisk, restore);
  }

  async #begin(
    kind: GuestKind,
    openDisk: (spec: DiskSpec) => Promise<MountedDisk>,
    begin: (spec: GuestSpec) => Promise<GuestSession>,
  ): Promise<RunGuest> {
    const startedAt = performance.now();
    const { layers, sources, workspaces } = this.#options;
    const { definition, image } = kind.sandbox;
    await using cleanup = new AsyncDisposableStack();
    const [root, source] = await Promise.all([
      layers.root(image.layers),
      kind.sourceDigest === undefined ? undefined : sources.hold(kind.sourceDigest),
    ]);
    cleanup.defer(() => source?.release());
    const owner = (await resolveImageUser(root.path, image.user)).ids;
    const disk = await openDisk({ sizeMib: definition.resources.disk_mib, owner });
    cleanup.defer(() => workspaces.close(disk));
    const hasShell = await imageHasShell(root.path);
    const spec = this.#spec(kind, root, source?.path, disk.mountPoint, hasShell);
    const session = await begin(spec);
    cleanup.defer(() => session.destroy());
    const resources = cleanup.move();
    return {
      kind,
      session,
      disk,
      startMs: performance.now() - startedAt,
      dispose: () => resources.disposeAsync(),
    };
  }

  #spec(
    kind: GuestKind,
    root: GuestSpec["root"],
    sourcePath: string | undefined,
    workspacePath: string,
    hasShell: boolean,
  ): GuestSpec {
    const { definition, image } = kind.sandbox;
    const { resources, network } = definition;
    const bind = (destination: string, path: string, readOnly: boolean) => ({
      destination,
      source: { kind: "bind", path } as const,
      readOnly,
    });
    return {
      id: `r-${randomUUID()}`,
      root,
      argv: agentArgv({ hasShell }),
      env: {
        ...agentEnv(image.env),
        ...agentEnvironment({ taskUser: image.user === "" ? undefined : image.user }),
      },
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
      mounts: [
        bind(guestPaths.helmr, this.#options.bundleDir, true),
        ...(sourcePath === undefined ? [] : [bind(guestPaths.taskSource, sourcePath, true)]),
        bind(definition.workspace_mount_path, workspacePath, false),
      ],
      resources: { cpu: resources.cpu, memoryMib: resources.memory_mib, diskMib: resources.disk_mib },
      network: network.internet
        ? { mode: "internet", deny: [...this.#options.networkDeny, ...network.deny] }
        : { mode: "none" },
      maxProcesses,
    };
  }
}

/** The image's environment, but what would change the agent's own node; the task gets that with `run.start`. */
function agentEnv(env: Readonly<Record<string, string>>): Record<string, string> {
  const { NODE_OPTIONS: _options, LD_PRELOAD: _preload, ...rest } = env;
  return { PATH: defaultPath, ...rest };
}
