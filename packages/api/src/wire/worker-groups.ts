/** Worker groups and workers: for who operates the installation. */
import { z } from "zod";
import { workerLabels } from "../worker-api.ts";
import { timestamp, uuid } from "./values.ts";

export const workerGroupName = z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, {
  error: "must start with a lower-case letter or digit, then letters, digits, - (at most 63)",
});
/** By name or id. */
export const workerGroupParams = z.object({ workerGroup: z.string().max(128) });
export const workerParams = z.object({ workerID: uuid });
export const bootstrapTokenParams = workerGroupParams.extend({ bootstrapTokenID: uuid });

const stateCounts = z.strictObject({ active: z.int(), draining: z.int(), gone: z.int() });

export const workerGroup = z.strictObject({
  id: z.string(),
  name: z.string(),
  labels: z.record(z.string(), z.string()),
  workers: stateCounts,
  /** Environments whose deployments go there from now on. */
  environments: z.int(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type WorkerGroup = z.infer<typeof workerGroup>;
export const workerGroupList = z.strictObject({ worker_groups: z.array(workerGroup) });
export const workerGroupCreateRequest = z.strictObject({
  name: workerGroupName,
  labels: workerLabels.optional(),
});
export const workerGroupPatchRequest = z.strictObject({
  name: workerGroupName.optional(),
  /** In place of those it has. */
  labels: workerLabels.optional(),
});

export const routedEnvironment = z.strictObject({
  environment_id: z.string(),
  project_id: z.string(),
  organization: z.string(),
  project: z.string(),
  environment: z.string(),
});
export type RoutedEnvironment = z.infer<typeof routedEnvironment>;
export const routedEnvironmentList = z.strictObject({ environments: z.array(routedEnvironment) });
export const routeEnvironmentRequest = z.strictObject({ environment_id: uuid });

export const bootstrapToken = z.strictObject({
  id: z.string(),
  name: z.string(),
  /** Its first characters; absent for one that the configuration gives. */
  prefix: z.string().optional(),
  status: z.enum(["active", "expired", "revoked"]),
  created_at: z.string(),
  expires_at: z.string().optional(),
  revoked_at: z.string().optional(),
  last_used_at: z.string().optional(),
});
export type BootstrapToken = z.infer<typeof bootstrapToken>;
export const bootstrapTokenList = z.strictObject({ tokens: z.array(bootstrapToken) });
export const bootstrapTokenCreateRequest = z.strictObject({
  name: z.string().trim().min(1).max(128),
  /** Absent: it does not expire. */
  expires_at: timestamp.optional(),
});
/** `secret` is shown this once. */
export const bootstrapTokenCreated = z.strictObject({ token: bootstrapToken, secret: z.string() });

const amounts = z.strictObject({
  cpu: z.int(),
  memory_mib: z.int(),
  disk_mib: z.int().optional(),
  slots: z.int().optional(),
});
export const worker = z.strictObject({
  id: z.string(),
  name: z.string(),
  worker_group: z.strictObject({ id: z.string(), name: z.string() }),
  /** `gone`: no heartbeat for a minute. */
  state: z.enum(["active", "draining", "gone"]),
  /** An operator drains it, until it is undrained. */
  drain_requested_at: z.string().optional(),
  version: z.string(),
  labels: z.record(z.string(), z.string()),
  driver: z.string().optional(),
  driver_version: z.string().optional(),
  architecture: z.string().optional(),
  checkpoint_compatibility: z.string().optional(),
  /** As registered. */
  capacity: z.record(z.string(), z.unknown()),
  /** What its runs and live copies of workspaces hold, and its builds. */
  held: amounts.extend({ slots: z.int(), disk_mib: z.int(), builds: z.int() }),
  /** What it can still be given; absent when it registered without `slots`: then its own limits are all there is. */
  free: amounts.optional(),
  /** What it said at its last heartbeat. */
  reported_free: z.record(z.string(), z.unknown()).optional(),
  bootstrap_token_id: z.string().optional(),
  credential_issued_at: z.string(),
  registered_at: z.string(),
  last_heartbeat_at: z.string(),
});
export type Worker = z.infer<typeof worker>;
export const workerList = z.strictObject({ workers: z.array(worker), next_cursor: z.string().optional() });
export const workerListQuery = z.object({
  /** By name or id. */
  worker_group: z.string().max(128).optional(),
  state: z.enum(["active", "draining", "gone"]).optional(),
  limit: z.coerce.number().int().min(1).max(500).optional(),
  /** `next_cursor` of the page before. */
  cursor: uuid.optional(),
});
