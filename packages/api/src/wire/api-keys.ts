/** API keys (contract 11): the key itself is in the answer to its creation and nowhere else. */
import { z } from "zod";
import { apiKeyScopes } from "../permissions.ts";
import { hasNoControl, uuid } from "./values.ts";

export const apiKeyStatuses = ["active", "expired", "revoked"] as const;

const grant = z.strictObject({ scopes: z.array(z.string()) });

export const apiKey = z.strictObject({
  id: z.string(),
  name: z.string(),
  /** Its first 16 characters, by which people recognise it. */
  key_prefix: z.string(),
  project_id: z.string(),
  environment_id: z.string(),
  permissions: z.array(grant).optional(),
  status: z.enum(apiKeyStatuses),
  created_at: z.string(),
  last_used_at: z.string().nullable(),
  expires_at: z.string().nullable(),
  revoked_at: z.string().nullable(),
});
export type ApiKey = z.infer<typeof apiKey>;
export const apiKeyList = z.strictObject({ items: z.array(apiKey), has_more: z.boolean() });
export const createdApiKey = z.strictObject({ ...apiKey.shape, raw_key: z.string() });

export const apiKeyParams = z.object({ apiKeyID: uuid });
export const apiKeyListQuery = z.object({ filter: z.enum([...apiKeyStatuses, "all"]).optional() });

/** Several grants are merged into one; the scopes keep the order of the list of scopes. */
const permissions = z
  .array(z.strictObject({ scopes: z.array(z.enum(apiKeyScopes)).min(1, "name at least one scope") }))
  .min(1, 'name at least one grant, like [{"scopes": ["runs:read"]}]')
  .max(apiKeyScopes.length, `at most ${apiKeyScopes.length} grants`)
  .transform((grants) => {
    const named = new Set(grants.flatMap(({ scopes }) => scopes));
    return apiKeyScopes.filter((scope) => named.has(scope));
  });

export const apiKeyCreateRequest = z.strictObject({
  name: z
    .string()
    .trim()
    .min(1, "must not be empty")
    .max(64, "must be at most 64 characters")
    .refine(hasNoControl, "must not contain control characters or half a surrogate pair"),
  /** Absent or null: it does not expire. */
  expires_in_days: z
    .union([z.literal(30), z.literal(90), z.literal(365), z.null()], {
      error: "must be 30, 90, 365 or null for a key that does not expire",
    })
    .optional(),
  permissions,
});
