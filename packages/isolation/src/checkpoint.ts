/**
 * What a checkpoint is made of and needs, and whether a host can restore it. Pure: nothing here touches the host.
 *
 * The record is small JSON for the database; the image's files lie in the caller's folder. A record says nothing secret: of
 * the guest's specification it holds digests only.
 */
import * as z from "zod";

const digest = z.string().regex(/^[0-9a-f]{16}$/);

/** One file of the image. The checksum finds accidents (truncation, flipped bits); authenticity is the archive's task. */
const checkpointFile = z.object({
  name: z.string().regex(/^[a-z0-9_-]+(\.[a-z0-9]+)*$/),
  size_bytes: z.int().nonnegative(),
  /** CRC-32 of the content. */
  crc32: z.int().nonnegative(),
});

export const checkpointRecord = z.object({
  format: z.literal(1),
  driver: z.enum(["gvisor", "firecracker", "qemu"]),
  driver_version: z.string(),
  architecture: z.enum(["x64", "arm64"]),
  /** SHA-256, 16 digits, of vendor and features: equal digests need no further look (for queries by worker). */
  cpu_features_digest: digest,
  cpu_vendor: z.string(),
  /** Every CPU feature the guest may have seen; it may use them without asking again. */
  cpu_features: z.array(z.string()),
  root_digest: z.string(),
  /** Digests of those parts of the guest's specification that must be the same at the restore. */
  spec: z.object({
    process: digest,
    mounts: digest,
    resources: digest,
    network: digest,
  }),
  files: z.array(checkpointFile).min(1).max(16),
});
/** @see checkpointRecord */
export type CheckpointRecord = z.infer<typeof checkpointRecord>;
export type CheckpointFile = CheckpointRecord["files"][number];

/** What a host offers, as far as a checkpoint depends on it; from `Isolation.checkpointHost()`. */
export interface CheckpointHost {
  readonly driver: CheckpointRecord["driver"];
  readonly driverVersion: string;
  readonly architecture: CheckpointRecord["architecture"];
  readonly cpuFeaturesDigest: string;
  readonly cpuVendor: string;
  readonly cpuFeatures: readonly string[];
}

export type Compatibility =
  | { readonly compatible: true }
  /** `reason`: one sentence for the run's events and the worker's log. */
  | { readonly compatible: false; readonly reason: string };

/** Whether `host` can restore what `record` describes, as far as the host decides (not the guest's specification). */
export function isCompatible(record: CheckpointRecord, host: CheckpointHost): Compatibility {
  const reason = incompatibility(record, host);
  return reason === undefined ? { compatible: true } : { compatible: false, reason };
}

function incompatibility(record: CheckpointRecord, host: CheckpointHost): string | undefined {
  if (record.driver !== host.driver)
    return `The checkpoint is of the driver ${record.driver}; this worker has ${host.driver}.`;
  if (record.driver_version !== host.driverVersion) {
    return `The checkpoint was made by ${record.driver} ${record.driver_version}; this worker has ${host.driverVersion}.`;
  }
  if (record.architecture !== host.architecture)
    return `The checkpoint is of ${record.architecture}; this worker is ${host.architecture}.`;
  if (record.cpu_features_digest === host.cpuFeaturesDigest) return undefined;
  // The layout of saved registers and the behaviour behind equal feature names differ between vendors.
  if (record.cpu_vendor !== host.cpuVendor)
    return `The checkpoint is of a ${record.cpu_vendor} processor; this worker has ${host.cpuVendor}.`;
  const present = new Set(host.cpuFeatures);
  const missing = record.cpu_features.filter((feature) => !present.has(feature));
  if (missing.length === 0) return undefined;
  const named = missing.slice(0, 8).join(", ") + (missing.length > 8 ? ", ..." : "");
  return `This worker's processor lacks what the checkpoint's guest may use: ${named}.`;
}

/** Which part of the specification is not that of the checkpoint; undefined when all are. */
export function specDifference(
  record: CheckpointRecord,
  spec: CheckpointRecord["spec"],
  rootDigest: string,
): string | undefined {
  if (record.root_digest !== rootDigest)
    return `the checkpoint is of the image ${record.root_digest}, not of ${rootDigest}`;
  const names = {
    process: "command, environment, user or process limit",
    mounts: "mounts",
    resources: "resources",
    network: "network mode",
  } as const;
  const parts = Object.keys(names) as (keyof typeof names)[];
  const differing = parts.filter((part) => record.spec[part] !== spec[part]).map((part) => names[part]);
  return differing.length === 0
    ? undefined
    : `${differing.join(" and ")} differ from what the checkpoint was made with`;
}
