/** Organizations, and what a user has to do with them (contract 11.1). */
import { z } from "zod";
import { memberRoles } from "../permissions.ts";
import { displayName, slug, uuid } from "./values.ts";

export const organization = z.strictObject({
  id: z.string(),
  slug: z.string(),
  name: z.string(),
  created_at: z.string(),
});
export type Organization = z.infer<typeof organization>;

/** One of the user's own. `selected`: where the session acts. */
export const ownOrganization = z.strictObject({
  ...organization.shape,
  role: z.enum(memberRoles),
  selected: z.boolean(),
});
export const ownOrganizationList = z.strictObject({ organizations: z.array(ownOrganization) });

export const organizationParams = z.object({ organizationID: uuid });
export const organizationCreateRequest = z.strictObject({
  slug,
  name: displayName.optional(),
  setup_token: z.string().max(1024, "must be at most 1024 characters").optional(),
});
