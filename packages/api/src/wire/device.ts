/** Sign-in of a command line by device code (RFC 8628, contract 12), and who is signed in. */
import { z } from "zod";
import { memberRoles } from "../permissions.ts";

export const deviceCodeStart = z.strictObject({
  device_code: z.string(),
  /** `XXXX-XXXX`. */
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in_seconds: z.int(),
  interval_seconds: z.int(),
});

export const deviceTokenRequest = z.strictObject({ device_code: z.string() });
export const deviceToken = z.strictObject({
  access_token: z.string(),
  token_type: z.literal("bearer"),
  expires_in_seconds: z.int(),
});
/** With status 202: nobody has decided yet; after `slow_down` the interval is 5 s longer. */
export const deviceTokenPending = z.strictObject({ error: z.enum(["authorization_pending", "slow_down"]) });

/** As a person types it: in any case, with spaces or dashes. */
const userCode = z.string().min(1, "must not be empty").max(64, "must be at most 64 characters");
export const deviceStatusQuery = z.object({ user_code: userCode });
export const deviceDecisionRequest = z.strictObject({ user_code: userCode });
const deviceCodeStatus = z.enum(["pending", "approved", "denied", "consumed", "expired"]);
export const deviceStatus = z.strictObject({ status: deviceCodeStatus, expires_at: z.string().optional() });
export const deviceDecision = z.strictObject({ status: deviceCodeStatus });

export const me = z.strictObject({
  user_id: z.string(),
  display_name: z.string(),
  /** Empty when there is none. */
  profile_image_url: z.string(),
  public_url: z.string().optional(),
  /** The organization in which the session acts, while the user is an active member of it. */
  org_id: z.string().optional(),
  org_name: z.string().optional(),
  org_slug: z.string().optional(),
  role: z.enum(memberRoles).optional(),
  /** What the role allows there, like `runs.read`. */
  permissions: z.array(z.string()),
  organization_required: z.boolean(),
  project_required: z.boolean(),
  access_required: z.boolean(),
  setup_token_required: z.boolean(),
});
export type Me = z.infer<typeof me>;
