/** The environment variables of `helmr-worker`. */
import { isAbsolute } from "node:path";
import { workerLabels } from "@helmr/api";
import {
  artifactKeyVariables,
  artifactStoreVariables,
  duration,
  logLevel,
  metricsListen,
  tracingVariables,
  urlOf,
  type Values,
} from "@helmr/process";
import { z } from "zod";
import type { WorkerCapacity } from "../options.ts";

const absolutePath = z.string().refine(isAbsolute, { error: "must be an absolute path" });

/** 32 random bytes in base64, or more. */
const bootstrapToken = z.string().min(43, {
  error: "must be a token of a worker group; make one with: helmr worker-group token create",
});

const checkpointKey = z.string().regex(/^[A-Za-z0-9+/_-]{43}=?$/, {
  error: "must be 32 random bytes in base64; make one with: openssl rand -base64 32",
});

const sizeUnits = new Map([
  ["MiB", 1],
  ["GiB", 1024],
  ["TiB", 1024 ** 2],
]);

/** Of what a machine has: `512MiB`, `24GiB`, `2TiB`; to MiB. */
const size = z
  .string()
  .regex(/^[1-9]\d{0,8}(?:MiB|GiB|TiB)$/, { error: "must be a size like 512MiB, 24GiB or 2TiB" })
  .transform((text) => Number.parseInt(text, 10) * (sizeUnits.get(text.slice(-3)) ?? 1));
const optionalCount = (max: number) => z.coerce.number().int().min(1).max(max).optional();

/** `key=value,key=value`. */
const labels = z.string().transform((text, context) => {
  const pairs = text.split(",").map((pair) => {
    const [key = "", ...value] = pair.trim().split("=");
    return [key, value.length === 0 ? undefined : value.join("=")] as const;
  });
  const parsed = workerLabels.safeParse(Object.fromEntries(pairs));
  if (parsed.success && Object.keys(parsed.data).length === pairs.length) return parsed.data;
  const message =
    "must look like zone=a,disk=nvme: at most 32 keys, each once, of letters, digits and ._/- (values without /), 63 characters each";
  context.addIssue({ code: "custom", message });
  return z.NEVER;
});

export const workerVariables = {
  HELMR_CONTROL_PLANE_URL: urlOf(["https:", "http:"], "https://host").describe(
    "the control plane's public URL",
  ),
  HELMR_WORKER_BOOTSTRAP_TOKEN: bootstrapToken.describe(
    "of the worker group that it joins: `helmr worker-group token create`, or the one that the control plane was started with",
  ),
  ...artifactStoreVariables,
  ...artifactKeyVariables,
  HELMR_WORKER_DATA_DIR: absolutePath.describe(
    "folder of this worker alone, on a disk with room: workspaces, layers, caches",
  ),
  HELMR_WORKER_NAME: z.string().max(128).optional().describe("what people see; else the host's name"),
  HELMR_RUNSC_PATH: absolutePath.describe(
    "gVisor's runsc; `node scripts/run.mjs scripts/install.ts` says where it is",
  ),
  HELMR_IMAGES_DIR: absolutePath.describe("image store; the same script makes it, with the base image in it"),
  HELMR_BASE_IMAGE: z
    .string()
    .default("node:24-bookworm-slim")
    .describe("image in which deployments are built"),
  HELMR_BUN_PATH: absolutePath.optional().describe("bun, for projects that build with it"),
  HELMR_GUEST_EXTRA_CA_CERTS: absolutePath
    .optional()
    .describe("PEM file of certificates that guests trust as well, where TLS is inspected"),
  HELMR_CHECKPOINT_ENCRYPTION_KEY: checkpointKey.describe(
    "32 random bytes in base64: seals the guests of waiting runs; the same for all workers",
  ),
  HELMR_CHECKPOINT_ENCRYPTION_KEY_OLD: checkpointKey
    .optional()
    .describe("the key before it, while runs are parked under it"),
  HELMR_PARK_AFTER_SECONDS: z.coerce
    .number()
    .min(0)
    .max(3600)
    .default(5)
    .describe("how long a waiting run keeps its guest before it is saved and gone"),
  HELMR_WORKER_SLOTS: optionalCount(1000).describe("runs at the same time; default 4 per core"),
  HELMR_WORKER_CPU: optionalCount(100_000).describe(
    "processors that the sandboxes of runs and live copies may add up to; default 8 per core, as most runs wait for something",
  ),
  HELMR_WORKER_MEMORY: size
    .optional()
    .describe(
      "memory that the same may add up to, like 24GiB; default 80 % of the machine's (or of the cgroup's limit)",
    ),
  HELMR_WORKER_DISK: size
    .optional()
    .describe(
      "disk that their workspaces may add up to; default 4 times what is free beyond the reserve, as they take what is in them",
    ),
  HELMR_WORKER_DISK_RESERVE: size
    .optional()
    .describe(
      "stays free on the disk of the data folder: below it caches are removed, then no new work is taken; default 5 %, from 4GiB to 20GiB",
    ),
  HELMR_WORKER_LABELS: labels.optional().describe("what operators read the worker by, like zone=a,disk=nvme"),
  HELMR_WORKER_DRAIN_TIMEOUT: duration("30s", "0s").describe(
    "after SIGTERM, runs and builds may end, and waits be parked, for so long; what is left goes on elsewhere",
  ),
  HELMR_WORKER_CREDENTIAL_ROTATION: duration("24h").describe(
    "the worker's credential is replaced that often, give or take a tenth",
  ),
  HELMR_WORKER_MATERIALIZATIONS: z.coerce
    .number()
    .int()
    .min(0)
    .max(1000)
    .optional()
    .describe("live copies of workspaces beside the runs, each in a guest; default as many as runs"),
  HELMR_METRICS_LISTEN: metricsListen,
  HELMR_LOG_LEVEL: logLevel,
  ...tracingVariables,
} as const;

/** What of the capacity is set; the rest is measured. */
export function capacityOf(config: Values<typeof workerVariables>): Partial<WorkerCapacity> {
  const capacity: Partial<Record<keyof WorkerCapacity, number | undefined>> = {
    runs: config.HELMR_WORKER_SLOTS,
    materializations: config.HELMR_WORKER_MATERIALIZATIONS,
    cpu: config.HELMR_WORKER_CPU,
    memoryMib: config.HELMR_WORKER_MEMORY,
    diskMib: config.HELMR_WORKER_DISK,
  };
  return Object.fromEntries(Object.entries(capacity).filter(([, value]) => value !== undefined));
}
