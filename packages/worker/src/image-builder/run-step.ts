/**
 * A `run` step: the program in a guest whose writes become the layer.
 *
 *  I1  Secrets are files on a host tmpfs, mounted read-only for this step; they are in no layer and no event.
 *  I2  What the step wrote about the build's package registry is removed before the layer is kept (clean-layer.ts).
 *  I3  A step that fills the disk is killed (build-guard.ts); what it left is bounded too (clean-layer.ts).
 */
import { chown, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ImageStep } from "@helmr/api";
import type { GuestMount, GuestNetwork, GuestSpec } from "@helmr/isolation";
import { IsolationError, unmount } from "@helmr/isolation";
import { execa } from "execa";
import { BuildFailure, messageOf } from "../failure.ts";
import { describeEnd, type GuestProcessEnd, runGuestProcess } from "../guest-process.ts";
import { type ImageUser, resolveImageUser } from "../image-user.ts";
import { OutputLines } from "../output-tail.ts";
import type { BuildRegistry } from "../sdk-access.ts";
import type { ImageBuildContext, ImageState } from "./build-context.ts";
import { cleanLayer } from "./clean-layer.ts";

type RunStep = Extract<ImageStep, { op: "run" }>;

const stepTimeoutMs = 30 * 60_000;
const maxProcesses = 4096;

export interface RunStepOptions {
  readonly context: ImageBuildContext;
  readonly state: ImageState;
  readonly step: RunStep;
  /** For messages: `image hello step 3/7: run npm ci`. */
  readonly name: string;
  readonly upper: string;
}

/** Execute the step with its writes landing in `upper`; throws BuildFailure with the output's tail. */
export async function executeRunStep(options: RunStepOptions): Promise<void> {
  const { context, state, step, name } = options;
  const { registry } = await context.prepare();
  const root = await context.layers.root(state.layers);
  try {
    const user = await userOf(root.path, state.user, name);
    const cacheIds = (step.cache ?? []).map((mount) => mount.cache_id);
    await context.caches.with(context.environmentId, cacheIds, user.ids, (folders) =>
      withSecretFiles(options, user, async (secretMounts) => {
        const cacheMounts = (step.cache ?? []).map((mount) =>
          bindMount(mount.mount_path, folders.get(mount.cache_id) ?? "", false),
        );
        const mounts = [...cacheMounts, ...secretMounts, registry.mount];
        const spec: GuestSpec = {
          id: `b-${crypto.randomUUID()}`,
          root,
          captureWritesTo: options.upper,
          argv: step.argv,
          env: { ...stepEnv(state, user), ...registry.env },
          cwd: state.workdir,
          user: user.ids,
          mounts,
          resources: context.resources,
          network: stepNetwork(context, registry),
          maxProcesses,
        };
        await runProgram(options, spec);
      }),
    );
    await cleanLayer(options.upper, registry);
  } finally {
    await context.layers.release(root);
  }
}

async function runProgram({ context, step, name }: RunStepOptions, spec: GuestSpec): Promise<void> {
  const output = new OutputLines(context.onOutput);
  let end: GuestProcessEnd;
  try {
    end = await runGuestProcess({
      isolation: context.isolation,
      spec,
      timeoutMs: stepTimeoutMs,
      signal: context.signal,
      onOutput: (stream, data) => output.push(stream, data),
    });
  } catch (error) {
    context.signal.throwIfAborted();
    const why =
      error instanceof IsolationError && error.layer === "program"
        ? `${messageOf(error)}; install it in an earlier step of the image, or give the path it has there`
        : `could not run: ${messageOf(error)}`;
    throw new BuildFailure("image_preparation", `image preparation: ${name}: ${why}`, {
      step: name,
      outputTail: output.tail(),
      cause: error,
    });
  }
  if (end.reason === "exited" && end.code === 0) return;
  const why = describeEnd(end, { timeoutMs: stepTimeoutMs, memoryMib: spec.resources.memoryMib });
  const hint =
    end.reason === "exited" && end.code === 127
      ? ` (is ${JSON.stringify(step.argv[0])} installed in the image?)`
      : "";
  throw new BuildFailure("image_preparation", `image preparation: ${name}: ${why}${hint}`, {
    step: name,
    outputTail: output.tail(),
    retryable: end.reason === "lost",
  });
}

async function userOf(root: string, user: string, name: string): Promise<ImageUser> {
  return resolveImageUser(root, user).catch((error: unknown) => {
    throw new BuildFailure("image_preparation", `image preparation: ${name}: ${messageOf(error)}`, {
      step: name,
      cause: error,
    });
  });
}

/** HOME is the user's unless the image sets it; nothing of the worker's environment gets in. */
function stepEnv(state: ImageState, user: ImageUser): Record<string, string> {
  return { HOME: user.home, TERM: "dumb", ...state.env };
}

function stepNetwork(context: ImageBuildContext, registry: BuildRegistry): GuestNetwork {
  const workerPorts = [registry.port];
  if (!context.network.internet) return { mode: "none", workerPorts };
  return { mode: "internet", deny: [...context.networkDeny, ...context.network.deny], workerPorts };
}

function bindMount(destination: string, path: string, readOnly: boolean): GuestMount {
  return { destination, source: { kind: "bind", path }, readOnly };
}

/** I1 */
async function withSecretFiles(
  options: RunStepOptions,
  user: ImageUser,
  work: (mounts: GuestMount[]) => Promise<void>,
): Promise<void> {
  const secrets = options.step.secrets ?? [];
  if (secrets.length === 0) return work([]);
  const dir = join(options.context.scratchDir, "secrets");
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await execa("mount", ["-t", "tmpfs", "-o", "size=16m,mode=700,nosuid,nodev,noexec", "helmr-secrets", dir]);
  try {
    const mounts: GuestMount[] = [];
    for (const [index, { mount_path, secret }] of secrets.entries()) {
      const path = join(dir, String(index));
      await writeFile(path, options.context.secrets.get(secret) ?? "", { mode: 0o400 });
      await chown(path, user.ids.uid, user.ids.gid);
      mounts.push(bindMount(mount_path, path, true));
    }
    await work(mounts);
  } finally {
    await unmount(dir);
    await rm(dir, { recursive: true, force: true });
  }
}
