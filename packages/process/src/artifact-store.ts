/** Where artifacts lie: the variables that say so, and the store that they name. The same in every process. */
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  type ArtifactKeys,
  type ArtifactStore,
  openFolder,
  parseArtifactKeys,
  type StoreParts,
  storeOn,
} from "@helmr/artifacts";
import { z } from "zod";
import type { Values } from "./config.ts";
import { makeFolder } from "./make-folder.ts";
import { urlOf } from "./variables.ts";

/** A folder that processes share, or a bucket. */
type ArtifactPlace =
  | { readonly kind: "folder"; readonly folder: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly prefix: string };

const segment = /^[A-Za-z0-9!_.*'()-]+$/;

const casUri = z.string().transform((text, context): ArtifactPlace => {
  const parsed = URL.parse(text);
  if (parsed?.protocol === "file:" && parsed.host === "" && parsed.pathname.length > 1)
    return { kind: "folder", folder: fileURLToPath(parsed) };
  if (parsed?.protocol === "s3:" && isBucket(parsed)) {
    const segments = parsed.pathname.split("/").filter((part) => part !== "");
    if (segments.every((part) => segment.test(part) && !/^\.+$/.test(part)))
      return { kind: "s3", bucket: parsed.host, prefix: segments.join("/") };
  }
  context.addIssue({ code: "custom", message: "must be file:///path or s3://bucket/prefix" });
  return z.NEVER;
});

/** Credentials have variables of their own: a URL is shown. */
function isBucket({ host, port, username, password, search, hash }: URL): boolean {
  return (
    /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(host) && `${port}${username}${password}${search}${hash}` === ""
  );
}

const endpoint = urlOf(["https:", "http:"], "https://host[:port]").refine(
  (text) => {
    const parsed = URL.parse(text);
    return parsed === null || `${parsed.username}${parsed.password}${parsed.search}${parsed.hash}` === "";
  },
  {
    error:
      "must have no user, query or fragment; credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
  },
);

export const artifactStoreVariables = {
  HELMR_CAS_URI: casUri.describe(
    "object store of sources and artifacts, the same for all processes: `file:///path` of a folder that they share, or `s3://bucket/prefix`",
  ),
  HELMR_S3_ENDPOINT: endpoint
    .optional()
    .describe(
      "`https://host` of an S3-compatible server; else AWS. Credentials as for every AWS SDK: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, files, the machine's role",
    ),
  HELMR_S3_REGION: z
    .string()
    .max(100)
    .optional()
    .describe("the bucket's region; else `AWS_REGION`, else `us-east-1` with an endpoint"),
  HELMR_S3_FORCE_PATH_STYLE: z
    .enum(["true", "false", "1", "0"], { error: "must be true or false" })
    .transform((text) => text === "true" || text === "1")
    .optional()
    .describe(
      "true: `https://host/bucket` instead of `https://bucket.host`, as most servers beside AWS want it",
    ),
  HELMR_ARTIFACT_STAGING_DIR: z
    .string()
    .refine(isAbsolute, { error: "must be an absolute path" })
    .optional()
    .describe(
      "folder, on a disk with room, of what is on its way into a bucket; else one in the temporary folder, of a worker in its data folder",
    ),
  AWS_REGION: z
    .string()
    .max(100)
    .optional()
    .describe("the region of every AWS SDK, where `HELMR_S3_REGION` is not set"),
} as const;

const key = z
  .string()
  .refine((text) => /^[A-Za-z0-9+/_-]{43}=?$/.test(text) && Buffer.from(text, "base64").length === 32, {
    error: "must be 32 random bytes in base64; make one with: openssl rand -base64 32",
  });

/** Of processes that read or write artifacts; one that only removes them needs no key. */
export const artifactKeyVariables = {
  HELMR_ARTIFACT_ENCRYPTION_KEY: key.describe(
    "32 random bytes in base64: seals sources, workspaces and image layers before they are stored; the same for control planes and workers",
  ),
  HELMR_ARTIFACT_ENCRYPTION_KEY_OLD: key
    .optional()
    .describe(
      "the key before it, while anything is sealed under it: `helmr-control artifacts reencrypt` says so",
    ),
} as const;

/** @throws what is wrong with a key, without the key */
export function artifactKeys(values: Values<typeof artifactKeyVariables>): ArtifactKeys {
  return parseArtifactKeys({
    current: values.HELMR_ARTIFACT_ENCRYPTION_KEY,
    old: values.HELMR_ARTIFACT_ENCRYPTION_KEY_OLD,
  });
}

/** Which store a process opens. */
export interface ArtifactStoreConfig {
  readonly place: ArtifactPlace;
  readonly s3: {
    readonly endpoint: string | undefined;
    /** Undefined: what the SDK finds in its files. */
    readonly region: string | undefined;
    readonly forcePathStyle: boolean;
  };
  readonly stagingDir: string | undefined;
}

export function artifactStoreConfig(values: Values<typeof artifactStoreVariables>): ArtifactStoreConfig {
  const endpoint = values.HELMR_S3_ENDPOINT;
  const known = values.HELMR_S3_REGION ?? values.AWS_REGION;
  return {
    place: values.HELMR_CAS_URI,
    s3: {
      endpoint,
      // Other servers than AWS mostly do not care, but requests are signed for one.
      region: known ?? (endpoint === undefined ? undefined : "us-east-1"),
      forcePathStyle: values.HELMR_S3_FORCE_PATH_STYLE ?? false,
    },
    stagingDir: values.HELMR_ARTIFACT_STAGING_DIR,
  };
}

export interface OpenOptions {
  /** Undefined for a process that only removes. */
  readonly keys?: ArtifactKeys;
  /** Where a process stages that has a folder of its own for it. */
  readonly stagingDir?: string;
}

/** The store, when it answers. */
export async function openArtifactStore(
  config: ArtifactStoreConfig,
  options: OpenOptions = {},
): Promise<ArtifactStore> {
  return storeOn(await openArtifactParts(config, options));
}

/** What the store is made of, for a command that looks after all of it. */
export async function openArtifactParts(
  config: ArtifactStoreConfig,
  options: OpenOptions = {},
): Promise<StoreParts> {
  const { place, s3 } = config;
  const { keys } = options;
  if (place.kind === "folder") {
    await makeFolder(place.folder, 0o700);
    return openFolder(place.folder, { keys });
  }
  const stagingDir =
    config.stagingDir ?? options.stagingDir ?? join(tmpdir(), `helmr-artifacts-${process.getuid?.() ?? 0}`);
  await makeFolder(stagingDir, 0o700);
  await requireOwn(stagingDir);
  // The SDK is loaded only where it is used.
  const { openBucket } = await import("@helmr/artifacts/s3");
  return openBucket({ bucket: place.bucket, prefix: place.prefix, ...s3, keys, stagingDir });
}

/** In a folder that everybody may write to, somebody else may have been first. */
async function requireOwn(folder: string): Promise<void> {
  const { uid, mode } = await stat(folder);
  if (uid === process.getuid?.() && (mode & 0o022) === 0) return;
  throw new Error(
    `${folder} belongs to somebody else or others may write to it: artifacts are staged there. Set HELMR_ARTIFACT_STAGING_DIR to a folder of this user alone`,
  );
}
