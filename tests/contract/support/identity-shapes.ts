/** The objects of contract 11 and 12, as shapes.ts has the others. */
import {
  bool,
  type Fields,
  filled,
  filledList,
  id,
  isTrue,
  listOf,
  oneOf,
  orNull,
  shaped,
  text,
  timestamp,
} from "./checks.ts";

/** Contract 11 */
export const environment: Fields = {
  id,
  project_id: id,
  slug: filled,
  name: filled,
  color_hex: (value) => typeof value === "string" && /^#[0-9A-F]{6}$/.test(value),
  is_default: bool,
  created_at: timestamp,
  updated_at: timestamp,
};
/** Without its environments. */
export const project: Fields = {
  id,
  slug: filled,
  name: filled,
  is_default: bool,
  created_at: timestamp,
  updated_at: timestamp,
};
export const projectWithEnvironments: Fields = {
  ...project,
  environments: listOf(shaped(environment)),
};
export const apiKey: Fields = {
  id,
  name: filled,
  key_prefix: (value) => typeof value === "string" && /^hlmr_sk_[A-Za-z0-9_-]{8}$/.test(value),
  project_id: id,
  environment_id: id,
  "permissions?": filledList(shaped({ scopes: filledList(filled) })),
  status: oneOf("active", "expired", "revoked"),
  created_at: timestamp,
  last_used_at: orNull(timestamp),
  expires_at: orNull(timestamp),
  revoked_at: orNull(timestamp),
};
export const createdApiKey: Fields = {
  ...apiKey,
  raw_key: (value) => typeof value === "string" && /^hlmr_sk_[A-Za-z0-9_-]{43}$/.test(value),
};

/** Contract 11.1 */
export const organization: Fields = { id, slug: filled, name: filled, created_at: timestamp };
const role = oneOf("owner", "admin", "developer", "viewer");
export const member: Fields = {
  user_id: id,
  display_name: filled,
  "email?": filled,
  role,
  status: filled,
  created_at: timestamp,
  updated_at: timestamp,
  "disabled_at?": timestamp,
};
export const invitation: Fields = {
  id,
  email: filled,
  role,
  status: oneOf("pending", "accepted", "revoked", "expired"),
  "invited_by_user_id?": id,
  "accepted_by_user_id?": id,
  "revoked_by_user_id?": id,
  created_at: timestamp,
  expires_at: timestamp,
  "accepted_at?": timestamp,
  "revoked_at?": timestamp,
};
export const createdInvitation: Fields = { ...invitation, invite_url: filled };
export const invitationList: Fields = { invitations: listOf(shaped(invitation)), has_more: bool };
export const magicLinkStart: Fields = { sent: isTrue, "email?": filled, "debug_url?": filled };

/** Contract 12 */
export const deviceStart: Fields = {
  device_code: (value) => typeof value === "string" && /^[A-Za-z0-9_-]{43}$/.test(value),
  user_code: (value) => typeof value === "string" && /^[A-HJ-NP-Z2-9]{4}-[A-HJ-NP-Z2-9]{4}$/.test(value),
  verification_uri: filled,
  "verification_uri_complete?": filled,
  expires_in_seconds: oneOf(600),
  interval_seconds: oneOf(5),
};
export const deviceToken: Fields = {
  access_token: (value) => typeof value === "string" && /^(?!hlmr_sk_)[A-Za-z0-9_-]{40,}$/.test(value),
  token_type: oneOf("bearer"),
  expires_in_seconds: oneOf(30 * 86_400),
};
export const me: Fields = {
  user_id: id,
  display_name: filled,
  profile_image_url: text,
  "public_url?": filled,
  "org_id?": id,
  "org_name?": filled,
  "org_slug?": filled,
  "role?": role,
  permissions: listOf(filled),
  organization_required: bool,
  project_required: bool,
  access_required: bool,
  setup_token_required: bool,
};

export { expectList, expectShape } from "./checks.ts";
