/** Members of an organization and invitations to it (contract 11.1). */
import { z } from "zod";
import { memberRoles } from "../permissions.ts";
import { organization } from "./organizations.ts";
import { emailAddress } from "./sign-in.ts";
import { uuid } from "./values.ts";

const role = z.enum(memberRoles, { error: `must be one of ${memberRoles.join(", ")}` });

export const member = z.strictObject({
  user_id: z.string(),
  display_name: z.string(),
  email: z.string().optional(),
  role: z.enum(memberRoles),
  status: z.enum(["active", "disabled"]),
  created_at: z.string(),
  updated_at: z.string(),
  disabled_at: z.string().optional(),
});
export type Member = z.infer<typeof member>;
export const memberList = z.strictObject({ members: z.array(member) });
export const memberParams = z.object({ userID: uuid });
/** `expected_role`: what the caller saw; another one meanwhile is a 409. */
export const memberPatchRequest = z.strictObject({ role, expected_role: role });

export const invitationStatuses = ["pending", "accepted", "revoked", "expired"] as const;

export const invitation = z.strictObject({
  id: z.string(),
  email: z.string(),
  role: z.enum(memberRoles),
  status: z.enum(invitationStatuses),
  invited_by_user_id: z.string().optional(),
  accepted_by_user_id: z.string().optional(),
  revoked_by_user_id: z.string().optional(),
  created_at: z.string(),
  expires_at: z.string(),
  accepted_at: z.string().optional(),
  revoked_at: z.string().optional(),
});
export type Invitation = z.infer<typeof invitation>;
export const invitationList = z.strictObject({ invitations: z.array(invitation), has_more: z.boolean() });
/** The link is in this answer and in the e-mail, nowhere else. */
export const createdInvitation = z.strictObject({ ...invitation.shape, invite_url: z.string() });
export const invitationParams = z.object({ invitationID: uuid });
export const invitationCreateRequest = z.strictObject({
  email: emailAddress,
  role,
  expires_in_days: z
    .int({ error: "must be a whole number from 1 to 30" })
    .min(1, "must be at least 1")
    .max(30, "must be at most 30")
    .optional(),
});
export const invitationAcceptRequest = z.strictObject({
  token: z
    .string()
    .regex(/^hlmr_inv_[A-Za-z0-9_-]{43}$/, { error: "must be the token of an invitation link" }),
});
export const acceptedInvitation = z.strictObject({ organization, role: z.enum(memberRoles) });
