/**
 * Builds an image step by step: each step that changes files is a layer under a key of its inputs, so an unchanged
 * step costs nothing. `env`, `user` and `workdir` only change what later steps (and runs) start with.
 *
 *   key(run)       parent layers, argv, env, user, workdir, network rules, cache ids, names and marks of secrets; with a
 *                  cache or a secret also the environment: what one environment keeps in its caches must not reach the
 *                  layers of another, and nobody may learn from "(cached)" that another's secret has the same value
 *   key(copy)      parent layers, destination, digest of the copied tree
 *   key(copy_from) parent layers, destination, layers of the other image, path
 */
import { join, posix } from "node:path";
import type { ImageDefinition, ImageStep } from "@helmr/api";
import { PullError, pullImage, resolveImage, type StoredImage } from "@helmr/artifacts/images";
import type { CopyInputs } from "../catalog-cache.ts";
import { BuildFailure, messageOf } from "../failure.ts";
import type { ImageBuildContext, ImageState } from "./build-context.ts";
import {
  absoluteIn,
  type CopySource,
  copyInto,
  keepAll,
  keepUnless,
  makeFolder,
  resolveSource,
  withWritableRoot,
} from "./copy-step.ts";
import { digestTree, keyOf, secretMark } from "./layer-key.ts";
import { baseReferenceOf, maxLayers } from "./layer-store.ts";
import { executeRunStep } from "./run-step.ts";

/** Images that copy from images that copy from images: far above what anybody writes. */
const maxNesting = 8;

/** Execute all steps; throws BuildFailure that names the step. */
export async function buildImage(
  context: ImageBuildContext,
  image: ImageDefinition,
  label: string,
  depth = 0,
): Promise<ImageState> {
  if (depth > maxNesting)
    throw new BuildFailure(
      "image_preparation",
      `image preparation: ${label}: images copy from each other more than ${maxNesting} levels deep`,
    );
  let state: ImageState | undefined;
  for (const [index, step] of image.steps.entries()) {
    context.signal.throwIfAborted();
    const name = `${label} step ${index + 1}/${image.steps.length}: ${describeStep(step)}`;
    state =
      step.op === "from"
        ? await startFrom(context, step.ref, name)
        : await applyStep(context, state, step, name, depth);
    if (state.layers.length > maxLayers)
      state = { ...state, layers: await context.layers.flatten(state.layers) };
  }
  if (state === undefined)
    throw new BuildFailure(
      "image_preparation",
      `image preparation: ${label}: has no steps; begin with .from("node:24-bookworm-slim")`,
    );
  return state;
}

/** Names of the build secrets that an image's steps mount, those of images it copies from included. */
export function secretNames(image: ImageDefinition): string[] {
  return image.steps.flatMap((step) => {
    if (step.op === "run") return (step.secrets ?? []).map((mount) => mount.secret);
    return step.op === "copy_from" ? secretNames(step.image) : [];
  });
}

function describeStep(step: ImageStep): string {
  const text = stepText(step).replace(/\s+/g, " ");
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}

function stepText(step: ImageStep): string {
  switch (step.op) {
    case "from":
      return `from ${step.ref}`;
    case "run":
      return `run ${step.argv.join(" ")}`;
    case "copy":
      return `copy ${step.source.path} to ${step.dest}`;
    case "copy_from":
      return `copy ${step.path} of image ${step.image.id} to ${step.dest}`;
    case "workdir":
      return `workdir ${step.path}`;
    case "env":
      return `env ${step.key}`;
    case "user":
      return `user ${step.user}`;
  }
}

async function startFrom(context: ImageBuildContext, reference: string, name: string): Promise<ImageState> {
  context.onStep(name, { step: name });
  const stored = (await resolveImage(context.imagesDir, reference)) ?? (await pull(context, reference, name));
  return {
    layers: [baseReferenceOf(stored)],
    env: stored.env,
    user: stored.user,
    workdir: stored.workdir || "/",
  };
}

async function pull(context: ImageBuildContext, reference: string, name: string): Promise<StoredImage> {
  context.onOutput(`image ${reference} is not on this worker; pulling it`);
  try {
    return await pullImage(reference, context.imagesDir, { signal: context.signal });
  } catch (error) {
    context.signal.throwIfAborted();
    const code = error instanceof PullError ? error.code : undefined;
    const unreachable = code === "unreachable" || code === "tool_missing";
    const advice =
      code === "unauthorized"
        ? "log in on the worker's host (skopeo login)"
        : "check its name, or import it into the worker's image store under this name";
    throw new BuildFailure(
      "image_preparation",
      `image preparation: ${name}: unknown image ${reference}: ${messageOf(error)}; ${advice}`,
      {
        step: name,
        retryable: unreachable,
        cause: error,
      },
    );
  }
}

async function applyStep(
  context: ImageBuildContext,
  state: ImageState | undefined,
  step: Exclude<ImageStep, { op: "from" }>,
  name: string,
  depth: number,
): Promise<ImageState> {
  if (state === undefined)
    throw new BuildFailure(
      "image_preparation",
      `image preparation: ${name}: the first step of an image must be .from(...)`,
      { step: name },
    );
  switch (step.op) {
    case "env":
      return { ...state, env: { ...state.env, [step.key]: step.value } };
    case "user":
      return { ...state, user: step.user };
    case "workdir": {
      const workdir = posix.normalize(absoluteIn(state.workdir, step.path));
      const key = keyOf({ op: "workdir", parent: state.layers, workdir });
      const layers = await hostLayer(context, state, key, name, (root) =>
        makeFolder(root, workdir).then(() => undefined),
      );
      return { ...state, layers, workdir };
    }
    case "run":
      return { ...state, layers: await runLayer(context, state, step, name) };
    case "copy": {
      const ignored = step.source.kind === "directory" ? (step.source.ignore ?? []) : [];
      const source = async (): Promise<CopySource> => ({
        root: (await context.prepare()).sourceDir,
        path: step.source.path,
        keep: keepUnless(ignored),
        keepOwners: false,
        signal: context.signal,
      });
      const inputs = await context.describeCopy(JSON.stringify([step.source.path, ignored]), async () => {
        const opened = await source();
        const from = await requireSource(opened, name);
        return { content: await digestTree(from, opened.keep), file: posix.basename(from) };
      });
      return { ...state, layers: await copyLayer(context, state, step.dest, source, name, inputs) };
    }
    case "copy_from": {
      const other = await buildImage(
        context,
        step.image,
        `image ${step.image.id} (for ${name.split(":")[0]})`,
        depth + 1,
      );
      const root = await context.layers.root(other.layers);
      try {
        const { signal } = context;
        const source = { root: root.path, path: step.path, keep: keepAll, keepOwners: true, signal };
        const file = posix.basename(await requireSource(source, name));
        const inputs = { content: keyOf({ layers: other.layers, path: step.path }), file };
        const layers = await copyLayer(context, state, step.dest, async () => source, name, inputs);
        return { ...state, layers };
      } finally {
        await context.layers.release(root);
      }
    }
  }
}

async function runLayer(
  context: ImageBuildContext,
  state: ImageState,
  step: Extract<ImageStep, { op: "run" }>,
  name: string,
): Promise<readonly string[]> {
  const secrets = (step.secrets ?? []).map(({ mount_path, secret }) => {
    const value = context.secrets.get(secret);
    if (value === undefined) {
      throw new BuildFailure(
        "image_preparation",
        `image preparation: ${name}: secret ${secret} is not set; set it with: helmr secret set ${secret}`,
        { step: name },
      );
    }
    return { mount_path, secret, mark: secretMark(context.workerKey, secret, value) };
  });
  const { internet, deny } = context.network;
  const { env, user, workdir, layers } = state;
  const key = keyOf({
    op: "run",
    parent: layers,
    argv: step.argv,
    env,
    user,
    workdir,
    internet,
    deny,
    cache: step.cache ?? [],
    secrets,
    environment: isShared(step) ? undefined : context.environmentId,
  });
  await announced(context, key, name, ({ upper }) => executeRunStep({ context, state, step, name, upper }));
  return [...layers, `layer:${key}`];
}

/** Whether the step's layer depends on nothing that belongs to one environment. */
function isShared(step: Extract<ImageStep, { op: "run" }>): boolean {
  return (step.cache ?? []).length === 0 && (step.secrets ?? []).length === 0;
}

async function requireSource(source: CopySource, name: string): Promise<string> {
  const from = await resolveSource(source);
  if (from !== undefined) return from;
  throw new BuildFailure(
    "image_preparation",
    `image preparation: ${name}: ${source.path} does not exist (is it excluded by ignorePatterns?)`,
    { step: name },
  );
}

/** `inputs`: what stands for the source in the key. `source` is asked for only when the layer must be made. */
async function copyLayer(
  context: ImageBuildContext,
  state: ImageState,
  dest: string,
  source: () => Promise<CopySource>,
  name: string,
  inputs: CopyInputs,
): Promise<readonly string[]> {
  const target = absoluteIn(state.workdir, dest);
  const key = keyOf({ op: "copy", parent: state.layers, target, ...inputs });
  return hostLayer(context, state, key, name, async (root) => copyInto(root, target, await source()));
}

async function hostLayer(
  context: ImageBuildContext,
  state: ImageState,
  key: string,
  name: string,
  change: (root: string) => Promise<void>,
): Promise<readonly string[]> {
  await announced(context, key, name, async ({ upper, work }) => {
    const lowers = await context.layers.lowers(state.layers);
    const target = join(context.scratchDir, "root");
    await withWritableRoot({ lowers, upper, work, target }, change).catch((error: unknown) => {
      context.signal.throwIfAborted();
      if (error instanceof BuildFailure) throw error;
      throw new BuildFailure("image_preparation", `image preparation: ${name}: ${messageOf(error)}`, {
        step: name,
        cause: error,
      });
    });
  });
  return [...state.layers, `layer:${key}`];
}

/** Make the layer unless it is here, and say which of the two happened. */
async function announced(
  context: ImageBuildContext,
  key: string,
  name: string,
  fill: (staging: { upper: string; work: string }) => Promise<void>,
): Promise<void> {
  const { cached } = await context.layers.ensure(key, async (staging) => {
    context.onStep(name, { step: name, cached: false });
    await fill(staging);
  });
  if (cached) context.onStep(`${name} (cached)`, { step: name, cached: true });
}
