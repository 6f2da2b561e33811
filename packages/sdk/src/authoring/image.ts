/**
 * `image(id)`: an immutable, ordered list of build steps (contract 13.5), kept in the catalog's form.
 */
import { branded, cacheBrand, imageBrand, sourceBrand } from "../brand.ts";
import {
  envNamePattern,
  expectAbsolutePath,
  expectObject,
  expectPattern,
  expectSecretName,
  expectText,
  fail,
  idPattern,
  show,
} from "./checks.ts";
import type { Cache, SourceDefinition, SourceRef } from "./source.ts";

export type ImageStep =
  | { op: "from"; ref: string }
  | {
      op: "run";
      argv: string[];
      cache?: { mount_path: string; cache_id: string }[] | undefined;
      secrets?: { mount_path: string; secret: string }[] | undefined;
    }
  | { op: "copy"; dest: string; source: SourceDefinition }
  | { op: "copy_from"; dest: string; image: ImageDefinition; path: string }
  | { op: "workdir"; path: string }
  | { op: "env"; key: string; value: string }
  | { op: "user"; user: string };
export interface ImageDefinition {
  id: string;
  steps: ImageStep[];
}

export interface ImageRunOptions {
  /** Folders kept between builds, each mounted for this step only. */
  readonly cache?: readonly { readonly mountPath: string; readonly cache: Cache }[] | undefined;
  /** Secrets readable at `mountPath` during this step only; they never reach the image. */
  readonly secrets?: readonly { readonly mountPath: string; readonly secret: string }[] | undefined;
}

export interface Image {
  readonly id: string;
  /** Starts from an image of a registry or of the worker's store, such as `node:24-bookworm-slim`. */
  from(ref: string): Image;
  /** Runs a program in a guest; for a shell line write `["sh", "-c", "..."]`. */
  run(argv: readonly string[], options?: ImageRunOptions): Image;
  /** Copies from the deployed source, or all of another image (from its `/`), to `dest`. */
  copy(dest: string, from: SourceRef | Image): Image;
  /** Copies `path` of another image to `dest`. */
  copyFrom(dest: string, image: Image, path: string): Image;
  /** Working folder of the steps after it. */
  workdir(path: string): Image;
  /** Environment variable of the steps after it and of runs. */
  env(key: string, value: string): Image;
  /** User of the steps after it and of runs: a name or an id, with an optional `:group`. */
  user(user: string): Image;
  readonly [imageBrand]: ImageDefinition;
}

/** The catalog's limit on steps of one image. */
const maxSteps = 500;

/** A new image without steps. Every call returns a new image; the one it was called on is unchanged. */
export function image(id: string): Image {
  return build({ id: expectPattern(id, idPattern, "image(id)"), steps: [] });
}

function build(definition: ImageDefinition): Image {
  const name = `image(${JSON.stringify(definition.id)})`;
  const add = (step: ImageStep): Image => {
    if (definition.steps.length === maxSteps)
      fail(name, `has more than ${maxSteps} steps; join some of them`);
    return build({ id: definition.id, steps: [...definition.steps, step] });
  };
  return Object.freeze({
    id: definition.id,
    from: (ref: string) => add({ op: "from", ref: expectReference(ref, `${name}.from(ref)`) }),
    run: (argv: readonly string[], options?: ImageRunOptions) =>
      add(runStep(argv, options ?? {}, `${name}.run`)),
    copy: (dest: string, from: SourceRef | Image) => add(copyStep(dest, from, `${name}.copy`)),
    copyFrom: (dest: string, from: Image, path: string) =>
      add(copyFromStep(dest, from, path, `${name}.copyFrom`)),
    workdir: (path: string) =>
      add({ op: "workdir", path: expectAbsolutePath(path, `${name}.workdir(path)`) }),
    env: (key: string, value: string) => add(envStep(key, value, `${name}.env`)),
    user: (user: string) => add({ op: "user", user: expectUser(user, `${name}.user(user)`) }),
    [imageBrand]: definition,
  });
}

function runStep(argv: readonly string[], options: ImageRunOptions, where: string): ImageStep {
  if (!Array.isArray(argv) || argv.length === 0) {
    fail(`${where}(argv)`, `must be a non-empty array such as ["npm", "ci"], got ${show(argv)}`);
  }
  const checked = argv.map((entry: unknown, index) => {
    if (typeof entry !== "string" || entry.includes("\0") || (index === 0 && entry === "")) {
      fail(`${where}(argv)[${index}]`, `must be a string without NUL characters, got ${show(entry)}`);
    }
    return entry;
  });
  const { cache, secrets } = expectObject(
    options,
    `${where}(argv, options)`,
    "{ cache: [...], secrets: [...] }",
  );
  const caches = mounts(cache, `${where}.cache`, (mount, at) => {
    const found = branded<{ id: string }>(mount.cache, cacheBrand);
    if (found === undefined) fail(`${at}.cache`, `must be a cache("id"), got ${show(mount.cache)}`);
    return { mount_path: expectMountPath(mount.mountPath, `${at}.mountPath`), cache_id: found.id };
  });
  const secretMounts = mounts(secrets, `${where}.secrets`, (mount, at) => ({
    mount_path: expectMountPath(mount.mountPath, `${at}.mountPath`),
    secret: expectSecretName(mount.secret, `${at}.secret`),
  }));
  const paths = [...(caches ?? []), ...(secretMounts ?? [])].map((mount) => mount.mount_path);
  const twice = paths.find((path, index) => paths.indexOf(path) !== index);
  if (twice !== undefined)
    fail(where, `mounts ${show(twice)} twice; give every cache and secret its own mountPath`);
  return {
    op: "run",
    argv: checked,
    ...(caches === undefined ? {} : { cache: caches }),
    ...(secretMounts === undefined ? {} : { secrets: secretMounts }),
  };
}

function mounts<T>(
  value: unknown,
  where: string,
  one: (mount: Record<string, unknown>, where: string) => T,
): T[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) fail(where, `must be an array of mounts, got ${show(value)}`);
  return value.map((entry: unknown, index) => {
    const at = `${where}[${index}]`;
    return one(expectObject(entry, at, '{ mountPath: "/root/.npm", ... }'), at);
  });
}

function expectMountPath(value: unknown, where: string): string {
  const path = expectAbsolutePath(value, where);
  if (path === "/") fail(where, "must not be the root folder");
  return path;
}

function copyStep(dest: string, from: SourceRef | Image, where: string): ImageStep {
  const checked = expectText(dest, `${where}(dest)`);
  const fromSource = branded<SourceDefinition>(from, sourceBrand);
  if (fromSource !== undefined) return { op: "copy", dest: checked, source: fromSource };
  const fromImage = branded<ImageDefinition>(from, imageBrand);
  if (fromImage === undefined) {
    fail(
      `${where}(dest, source)`,
      `must be source.file(path), source.directory(path) or an image, got ${show(from)}`,
    );
  }
  return {
    op: "copy_from",
    dest: checked,
    image: expectSteps(fromImage, `${where}(dest, image)`),
    path: "/",
  };
}

function copyFromStep(dest: string, from: Image, path: string, where: string): ImageStep {
  const definition = branded<ImageDefinition>(from, imageBrand);
  if (definition === undefined)
    fail(`${where}(dest, image, path)`, `image must be an image("id"), got ${show(from)}`);
  return {
    op: "copy_from",
    dest: expectText(dest, `${where}(dest)`),
    image: expectSteps(definition, `${where}(dest, image, path)`),
    path: expectAbsolutePath(path, `${where}(dest, image, path)`),
  };
}

/** Refuses an image without steps: nothing could be built from it. */
export function expectSteps(definition: ImageDefinition, where: string): ImageDefinition {
  if (definition.steps.length === 0) {
    fail(
      where,
      `image(${JSON.stringify(definition.id)}) has no steps; begin with .from("node:24-bookworm-slim")`,
    );
  }
  return definition;
}

function envStep(key: string, value: string, where: string): ImageStep {
  const checked = expectPattern(key, envNamePattern, `${where}(key)`);
  if (typeof value !== "string" || value.includes("\0")) {
    fail(
      `${where}(${JSON.stringify(checked)}, value)`,
      `must be a string without NUL characters, got ${show(value)}`,
    );
  }
  return { op: "env", key: checked, value };
}

function expectReference(value: unknown, where: string): string {
  const ref = expectText(value, where);
  if (/\s/.test(ref))
    fail(where, `must be an image reference such as "node:24-bookworm-slim", got ${show(ref)}`);
  return ref;
}

function expectUser(value: unknown, where: string): string {
  const user = expectText(value, where);
  if (!/^[^\s:]+(:[^\s:]+)?$/.test(user)) {
    fail(where, `must be a user such as "node", "1000" or "1000:1000", got ${show(user)}`);
  }
  return user;
}

/** The definition an image carries, of any copy of the SDK. */
export function imageDefinition(value: unknown): ImageDefinition | undefined {
  return branded<ImageDefinition>(value, imageBrand);
}
