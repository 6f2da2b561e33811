/** Projects and their environments (contract 11). */
import { z } from "zod";
import { displayName, slug, uuid } from "./values.ts";

export const environment = z.strictObject({
  id: z.string(),
  project_id: z.string(),
  slug: z.string(),
  name: z.string(),
  color_hex: z.string(),
  is_default: z.boolean(),
  /** Where deployments go from now on; absent: `default`. */
  worker_group: z.string().optional(),
  created_at: z.string(),
  updated_at: z.string(),
});
export type Environment = z.infer<typeof environment>;

export const project = z.strictObject({
  id: z.string(),
  slug: z.string(),
  name: z.string(),
  is_default: z.boolean(),
  created_at: z.string(),
  updated_at: z.string(),
  environments: z.array(environment).optional(),
});
export type Project = z.infer<typeof project>;
export const projectList = z.strictObject({ projects: z.array(project) });

export const projectParams = z.object({ projectID: uuid });
export const environmentParams = z.object({ projectID: uuid, environmentID: uuid });

const colorHex = z
  .string()
  .toUpperCase()
  .regex(/^#[0-9A-F]{6}$/, { error: "must be a color like #16A34A" });

export const projectCreateRequest = z.strictObject({ slug, name: displayName.optional() });
export const projectPatchRequest = z.strictObject({ slug, name: displayName });
export const environmentCreateRequest = z.strictObject({
  slug,
  name: displayName.optional(),
  color_hex: colorHex,
});
export const environmentPatchRequest = z.strictObject({
  slug,
  name: displayName,
  color_hex: colorHex,
  /** Name or id of a worker group: what is deployed next goes there. In a self-hosted installation only. */
  worker_group: z.string().max(128).optional(),
});

/** What a deletion would take along. Live runs are queued, running or waiting; live deployments queued or building. */
export const deletionPreview = z.strictObject({
  counts: z.strictObject({
    environments: z.int(),
    sessions: z.int(),
    runs: z.int(),
    live_runs: z.int(),
    workspaces: z.int(),
    deployments: z.int(),
    live_deployments: z.int(),
    secrets: z.int(),
    api_keys: z.int(),
  }),
});
export type DeletionPreview = z.infer<typeof deletionPreview>;

export const deletionQuery = z.object({
  /** Cancel what is live and delete it as well. */
  force: z
    .enum(["0", "1", "true", "false"], { error: "must be true or false" })
    .transform((value) => value === "1" || value === "true")
    .optional(),
});
