/** The environment variables of `helmr-worker`. */
import { isAbsolute } from "node:path";
import {
  artifactKeyVariables,
  artifactStoreVariables,
  logLevel,
  metricsListen,
  tokenOf,
  tracingVariables,
  urlOf,
} from "@helmr/process";
import { z } from "zod";

const absolutePath = z.string().refine(isAbsolute, { error: "must be an absolute path" });

const checkpointKey = z.string().regex(/^[A-Za-z0-9+/_-]{43}=?$/, {
  error: "must be 32 random bytes in base64; make one with: openssl rand -base64 32",
});

export const workerVariables = {
  HELMR_CONTROL_PLANE_URL: urlOf(["https:", "http:"], "https://host").describe(
    "the control plane's public URL",
  ),
  HELMR_WORKER_BOOTSTRAP_TOKEN: tokenOf(32).describe("the one that the control plane was started with"),
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
