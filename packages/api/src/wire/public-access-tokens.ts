/** Public access tokens (contract 5.2): bearer tokens for browsers, each for one stream of one session. */
import { z } from "zod";
import { correlationId, externalId, streamName, timestamp, uuid } from "./values.ts";

export const publicAccessScopeTypes = ["session.input.send", "session.output.read"] as const;

const session = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("id"), id: uuid }),
  z.strictObject({
    type: z.literal("external_id"),
    external_id: externalId.refine((text) => text !== "", { error: "must not be empty" }),
  }),
]);

/** `project_id` and `environment_id` by id or slug: a user session sends both, an API key neither. */
export const publicAccessTokenCreateRequest = z.strictObject({
  project_id: z.string().optional(),
  environment_id: z.string().optional(),
  scope: z.strictObject({
    type: z.enum(publicAccessScopeTypes),
    session,
    stream: streamName,
    correlation_id: correlationId.optional(),
  }),
  /** Absent: in 30 days. */
  expires_at: timestamp.optional(),
  /** Absent: as many as are wanted. */
  max_uses: z.int32().positive().optional(),
});
export type PublicAccessTokenCreateRequest = z.output<typeof publicAccessTokenCreateRequest>;

export const publicAccessToken = z.strictObject({
  id: z.string(),
  /** Shown this once. */
  public_access_token: z.string(),
  scope: z.strictObject({
    type: z.enum(publicAccessScopeTypes),
    session: z.strictObject({ type: z.literal("id"), id: z.string() }),
    stream: z.string(),
    correlation_id: z.string().optional(),
  }),
  expires_at: z.string(),
  max_uses: z.int().optional(),
  created_at: z.string(),
});
export type PublicAccessToken = z.infer<typeof publicAccessToken>;
