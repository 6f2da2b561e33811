/**
 * The catalog: what a deployment's source declares, as found by loading it in the build guest.
 *
 * Written by the guest's indexer, checked by the worker, stored by the control plane. Format 2 is contract 9.1's
 * `bundle_format_version`.
 */
import * as z from "zod";
import { cronPattern, timezone } from "./wire/schedules.ts";

/**
 * Bounds. The catalog comes out of a guest, which is hostile: the SDK's own checks ran there and prove nothing. Texts
 * have no NUL (no argument, path or column can hold one), paths no "..", ids the form that the SDK gives them.
 */
const text = (max: number) =>
  z
    .string()
    .max(max, `must be at most ${max} characters`)
    .refine((value) => !value.includes("\0"), { error: "must not contain NUL" });
const id = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, { error: "is no id" });
/** Contract 1.7. */
const streamId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$/, { error: "is no stream name" });
const queueId = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,255}$/, { error: "is no queue name" });
const hasNoParents = (path: string): boolean => !path.split("/").includes("..");
const path = text(4095).refine(hasNoParents, { error: 'must not contain ".."' });
const absolutePath = path.refine((value) => value.startsWith("/"), { error: "must be an absolute path" });
/** Contract 13.5. */
const reservedPaths = ["/dev", "/opt/helmr", "/proc", "/run", "/sys", "/tmp", "/.helmr-old-root"];
const isBelow = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
const workspacePath = absolutePath.refine(
  (value) => /^(\/[^/]+)+$/.test(value) && !reservedPaths.some((folder) => isBelow(value, folder)),
  { error: "must be a folder of its own, outside of the paths that Helmr needs" },
);
/** Of caches and build secrets: a file below /run or /tmp is usual. */
const buildMountPath = absolutePath.refine(
  (value) =>
    /^(\/[^/]+)+$/.test(value) &&
    !["/run", "/tmp", "/run/helmr-packages"].includes(value) &&
    !["/dev", "/proc", "/sys", "/opt/helmr", "/run/helmr-packages"].some((folder) => isBelow(value, folder)),
  { error: "must be a path that Helmr does not need itself" },
);
/** Resolved inside the image, where ".." stops at the root. */
const copyTarget = text(4095);
const maxArguments = 1000;
const maxMounts = 16;
/** 100 TiB and 10,000 vCPUs: what a worker gives is decided there; this fits every column. */
const mib = z
  .int()
  .positive()
  .max(100 * 1024 ** 2);

/** Secrets a task declares (contract 13.1). */
export const catalogSecret = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("env"),
    name: id,
    env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, { error: "is no variable name" }),
  }),
  z.strictObject({
    kind: z.literal("file"),
    name: id,
    path,
    mode: z.string().regex(/^[0-7]{4}$/, { error: "is no octal mode" }),
    owner: text(256).optional(),
  }),
  z.strictObject({
    kind: z.literal("dir"),
    name: id,
    path,
    mode: z.string().regex(/^[0-7]{4}$/, { error: "is no octal mode" }),
    owner: text(256).optional(),
  }),
]);
export type CatalogSecret = z.infer<typeof catalogSecret>;

/** Retry policy in the camelCase of contract 13.4, as it is on the wire. */
export const retryPolicy = z.union([
  z.strictObject({ enabled: z.literal(false) }),
  z.strictObject({
    enabled: z.literal(true).optional(),
    maxAttempts: z.int().min(1).max(10),
    backoff: z
      .strictObject({
        minMs: z.int().positive().optional(),
        maxMs: z.int().positive().optional(),
        factor: z.number().positive().optional(),
        jitter: z.enum(["none", "full"]).optional(),
      })
      .optional(),
  }),
]);
export type RetryPolicy = z.infer<typeof retryPolicy>;

/** One step of an image; `copy_from` carries the other image inline. Paths are POSIX. */
export type ImageStep =
  | { op: "from"; ref: string }
  | {
      op: "run";
      argv: string[];
      cache?: { mount_path: string; cache_id: string }[] | undefined;
      secrets?: { mount_path: string; secret: string }[] | undefined;
    }
  | {
      op: "copy";
      dest: string;
      source:
        | { kind: "file"; path: string }
        | { kind: "directory"; path: string; ignore?: string[] | undefined };
    }
  | { op: "copy_from"; dest: string; image: ImageDefinition; path: string }
  | { op: "workdir"; path: string }
  | { op: "env"; key: string; value: string }
  | { op: "user"; user: string };
export interface ImageDefinition {
  id: string;
  steps: ImageStep[];
}
export const imageDefinition: z.ZodType<ImageDefinition> = z.lazy(() =>
  z.strictObject({ id, steps: z.array(imageStep).min(1).max(500) }),
);
const imageStep: z.ZodType<ImageStep> = z.discriminatedUnion("op", [
  z.strictObject({ op: z.literal("from"), ref: text(512) }),
  z.strictObject({
    op: z.literal("run"),
    argv: z
      .array(text(128 * 1024))
      .min(1)
      .max(maxArguments),
    cache: z
      .array(z.strictObject({ mount_path: buildMountPath, cache_id: id }))
      .max(maxMounts)
      .optional(),
    secrets: z
      .array(z.strictObject({ mount_path: buildMountPath, secret: id }))
      .max(maxMounts)
      .optional(),
  }),
  z.strictObject({
    op: z.literal("copy"),
    dest: copyTarget,
    source: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("file"), path }),
      z.strictObject({
        kind: z.literal("directory"),
        path,
        ignore: z.array(text(1024)).max(1000).optional(),
      }),
    ]),
  }),
  z.strictObject({ op: z.literal("copy_from"), dest: copyTarget, image: imageDefinition, path }),
  z.strictObject({ op: z.literal("workdir"), path }),
  z.strictObject({
    op: z.literal("env"),
    key: text(256).regex(/^[^=]+$/, { error: "is no variable name" }),
    value: text(128 * 1024),
  }),
  z.strictObject({ op: z.literal("user"), user: text(256) }),
]);

export const catalogSandbox = z.strictObject({
  id,
  image: imageDefinition,
  workspace_mount_path: workspacePath,
  /** Whole vCPUs; MiB. Defaults 2 and 2048 are filled in; disk defaults to 10240. */
  resources: z.strictObject({
    cpu: z.int().positive().max(10_000),
    memory_mib: mib,
    disk_mib: mib,
  }),
  network: z.strictObject({
    internet: z.boolean(),
    allow: z.array(text(256)).max(1000),
    deny: z.array(text(256)).max(1000),
  }),
});
export type CatalogSandbox = z.infer<typeof catalogSandbox>;

export const catalogTask = z.strictObject({
  id,
  /** POSIX path relative to the source root, and the named export. */
  file_path: path,
  export_name: text(1024),
  sandbox_id: id,
  max_duration_seconds: z.int().min(5).max(86_400),
  queue: queueId,
  ttl: text(64).optional(),
  retry: retryPolicy,
  secrets: z.array(catalogSecret).max(100),
  has_payload: z.boolean(),
  /** Of `schedules.task` with a cron. */
  schedule: z.strictObject({ cron: cronPattern, timezone }).optional(),
});
export type CatalogTask = z.infer<typeof catalogTask>;

export const catalog = z.strictObject({
  format: z.literal(2),
  /** From helmr.config.ts. */
  project: text(256),
  tasks: z.array(catalogTask).max(2000),
  queues: z
    .array(z.strictObject({ id: queueId, concurrency_limit: z.int32().positive().nullable() }))
    .max(2000),
  sandboxes: z.array(catalogSandbox).max(200),
  /** Declared with `streams.input` and `streams.output`; one per direction and name. */
  streams: z
    .array(
      z.strictObject({
        name: streamId,
        direction: z.enum(["input", "output"]),
        schema_vendor: text(128).optional(),
      }),
    )
    .max(2000)
    .default([]),
});
export type Catalog = z.infer<typeof catalog>;
