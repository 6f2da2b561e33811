/** The audit log: who did what to which record, from where. */
import { z } from "zod";
import { limit, uuid } from "./values.ts";

export const auditRecord = z.strictObject({
  id: z.string(),
  at: z.string(),
  actor: z.strictObject({
    kind: z.enum(["user", "api_key", "public_access_token", "callback_url", "system", "anonymous"]),
    id: z.string().optional(),
    label: z.string(),
  }),
  action: z.string(),
  resource_kind: z.string(),
  resource_id: z.string().optional(),
  project_id: z.string().optional(),
  environment_id: z.string().optional(),
  address: z.string().optional(),
  user_agent: z.string().optional(),
  request_id: z.string().optional(),
  attributes: z.record(z.string(), z.unknown()),
});
export type AuditLogRecord = z.infer<typeof auditRecord>;
export const auditLog = z.strictObject({ records: z.array(auditRecord), has_more: z.boolean() });

/** `before`: the id of the last record of the page before. */
export const auditLogQuery = z.object({
  limit: limit.optional(),
  before: uuid.optional(),
  action: z
    .string()
    .regex(/^[a-z_]{1,64}\.[a-z_]{1,64}$/, { error: "must be like session.start" })
    .optional(),
  actor_id: uuid.optional(),
  resource_id: z
    .string()
    .min(1, "must not be empty")
    .max(200, "must be at most 200 characters")
    .refine((text) => !text.includes("\0"), "must not contain NUL")
    .optional(),
});
